//! The v2 device program (BPF_PROG_TYPE_CGROUP_DEVICE, Documentation/admin-guide/cgroup-v2.rst "Device
//! controller"), written instruction by instruction from a list of rules.
//!
//! Invariant: the program has no loop and jumps forward only, so the kernel's verifier takes it.

use crate::device_list::DeviceList;
use crate::devices::{Access, DeviceKind, DeviceRule};

/// Registers and opcodes of eBPF (Documentation/bpf/standardization/instruction-set.rst).
mod op {
    pub(super) const LDX_W: u8 = 0x61;
    pub(super) const AND32_K: u8 = 0x54;
    pub(super) const RSH32_K: u8 = 0x74;
    pub(super) const MOV32_K: u8 = 0xb4;
    pub(super) const MOV32_X: u8 = 0xbc;
    pub(super) const JNE_K: u8 = 0x55;
    pub(super) const JNE_X: u8 = 0x5d;
    pub(super) const JEQ_K: u8 = 0x15;
    pub(super) const EXIT: u8 = 0x95;
}

fn instruction(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    // struct bpf_insn on a little-endian machine: code, registers, offset, immediate.
    u64::from(code) | u64::from(src << 4 | dst) << 8 | u64::from(off as u16) << 16 | u64::from(imm as u32) << 32
}

/// The v2 program for `rules`: eBPF instructions, one a word. It returns 1 to allow, 0 to deny; the last rule
/// that matches decides. A deny rule matches when any access asked for is named in it, an allow rule when
/// all are. Rules about the same numbers are put together first, as v1 does; where a rule takes a part out of a
/// wider one, which v1 cannot express, the order alone decides.
pub fn device_program(rules: &[DeviceRule]) -> Vec<u64> {
    match DeviceList::of(rules) {
        Ok(list) => compile(&list.rules()),
        Err(_) => compile(rules),
    }
}

fn compile(rules: &[DeviceRule]) -> Vec<u64> {
    // r1 context; r2 kind, r3 access, r4 major, r5 minor.
    let mut out = vec![
        instruction(op::LDX_W, 2, 1, 0, 0),
        instruction(op::MOV32_X, 3, 2, 0, 0),
        instruction(op::AND32_K, 2, 0, 0, 0xffff),
        instruction(op::RSH32_K, 3, 0, 0, 16),
        instruction(op::LDX_W, 4, 1, 4, 0),
        instruction(op::LDX_W, 5, 1, 8, 0),
    ];
    let finish = |out: &mut Vec<u64>, allow: bool| {
        out.push(instruction(op::MOV32_K, 0, 0, 0, i32::from(allow)));
        out.push(instruction(op::EXIT, 0, 0, 0, 0));
    };
    for rule in rules.iter().rev() {
        if rule.is_everything() {
            finish(&mut out, rule.allow);
            return out;
        }
        // Each test jumps over the rest of the rule when it fails; offsets are filled in below.
        let mut tests: Vec<(u8, u8, u8, i32)> = Vec::new();
        match rule.kind {
            DeviceKind::All => {}
            DeviceKind::Block => tests.push((op::JNE_K, 2, 0, 1)),
            DeviceKind::Char => tests.push((op::JNE_K, 2, 0, 2)),
        }
        if let Some(major) = rule.major {
            tests.push((op::JNE_K, 4, 0, major as i32));
        }
        if let Some(minor) = rule.minor {
            tests.push((op::JNE_K, 5, 0, minor as i32));
        }
        if rule.access != Access::ALL {
            tests.push((op::MOV32_X, 1, 3, 0));
            tests.push((op::AND32_K, 1, 0, i32::from(rule.access.0)));
            tests.push(if rule.allow { (op::JNE_X, 1, 3, 0) } else { (op::JEQ_K, 1, 0, 0) });
        }
        let len = tests.len();
        for (at, (code, dst, src, imm)) in tests.into_iter().enumerate() {
            let jump = matches!(code, op::JNE_K | op::JNE_X | op::JEQ_K);
            let off = if jump { (len - at - 1 + 2) as i16 } else { 0 };
            out.push(instruction(code, dst, src, off, imm));
        }
        finish(&mut out, rule.allow);
    }
    finish(&mut out, false);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Access;
    use proptest::prelude::*;

    /// Runs the program on `bpf_cgroup_dev_ctx` words.
    fn run(program: &[u64], context: [u32; 3]) -> u32 {
        let mut regs = [0u64; 11];
        let mut pc = 0;
        loop {
            let word = program[pc];
            let (code, dst, src) = (word as u8, (word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let (off, imm) = ((word >> 16) as u16 as i16, (word >> 32) as u32 as i32);
            pc += 1;
            let mut jump = |taken: bool| {
                if taken {
                    assert!(off >= 0);
                    pc += off as usize;
                }
            };
            match code {
                0x61 => {
                    assert_eq!(src, 1);
                    regs[dst] = u64::from(context[off as usize / 4]);
                }
                0x54 => regs[dst] = u64::from(regs[dst] as u32 & imm as u32),
                0x74 => regs[dst] = u64::from(regs[dst] as u32 >> imm),
                0xb4 => regs[dst] = u64::from(imm as u32),
                0xbc => regs[dst] = u64::from(regs[src] as u32),
                0x55 => jump(regs[dst] != imm as i64 as u64),
                0x5d => jump(regs[dst] != regs[src]),
                0x15 => jump(regs[dst] == imm as i64 as u64),
                0x95 => return regs[0] as u32,
                other => panic!("opcode {other:#x}"),
            }
        }
    }

    fn hits(r: &DeviceRule, kind: DeviceKind, major: u32, minor: u32) -> bool {
        (r.kind == DeviceKind::All || r.kind == kind)
            && r.major.is_none_or(|m| m == major)
            && r.minor.is_none_or(|m| m == minor)
    }

    /// One rule has to grant all of the access.
    fn strictest(rules: &[DeviceRule], kind: DeviceKind, major: u32, minor: u32, access: u8) -> bool {
        let hit = rules
            .iter()
            .rev()
            .filter(|r| hits(r, kind, major, minor))
            .find(|r| if r.allow { access & !r.access.0 == 0 } else { access & r.access.0 != 0 });
        hit.is_some_and(|r| r.allow)
    }

    /// Each letter is granted or not by the last rule that names it.
    fn laxest(rules: &[DeviceRule], kind: DeviceKind, major: u32, minor: u32, access: u8) -> bool {
        [1, 2, 4].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let last = rules.iter().rev().find(|r| hits(r, kind, major, minor) && r.access.0 & bit != 0);
            last.is_some_and(|r| r.allow)
        })
    }

    fn some_rule() -> impl Strategy<Value = DeviceRule> {
        let kind = prop_oneof![Just(DeviceKind::All), Just(DeviceKind::Char), Just(DeviceKind::Block)];
        (any::<bool>(), kind, proptest::option::of(0..3u32), proptest::option::of(0..3u32), 1..8u8).prop_map(
            |(allow, kind, major, minor, bits)| DeviceRule { allow, kind, major, minor, access: Access(bits) },
        )
    }

    proptest! {
        #[test]
        fn program_agrees_with_the_rules(rules in proptest::collection::vec(some_rule(), 0..12)) {
            let program = device_program(&rules);
            for (kind, code) in [(DeviceKind::Block, 1u32), (DeviceKind::Char, 2)] {
                for major in 0..4 {
                    for minor in 0..4 {
                        for access in 1..8u8 {
                            let got = run(&program, [u32::from(access) << 16 | code, major, minor]);
                            let least = strictest(&rules, kind, major, minor, access);
                            let most = laxest(&rules, kind, major, minor, access);
                            prop_assert!(least <= (got == 1) && (got == 1) <= most,
                                "{:?} {}:{} {}: {} of {} to {}", kind, major, minor, access, got, least, most);
                            if access.count_ones() == 1 {
                                prop_assert_eq!(got == 1, most);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn letters_of_several_rules_add_up() {
        let rule = |text| DeviceRule::parse_allow(text).unwrap();
        let program = device_program(&[rule("c 1:3 r"), rule("b 1:3 w"), rule("c 1:3 w")]);
        assert_eq!(run(&program, [6 << 16 | 2, 1, 3]), 1, "reading and writing at once");
        assert_eq!(run(&program, [6 << 16 | 1, 1, 3]), 0);
    }
}
