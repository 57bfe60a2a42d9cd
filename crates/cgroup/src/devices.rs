//! Device access: the rules, their v1 text, and the v2 program (BPF_PROG_TYPE_CGROUP_DEVICE,
//! Documentation/admin-guide/cgroup-v2.rst "Device controller").
//!
//! Invariant: what matches no rule is denied, on both versions.

use crate::Error;

/// Which device nodes a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both; numbers and access are those of the whole rule all the same.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// Kinds of access, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// mknod(2)
    pub const MKNOD: Access = Access(1);
    /// Open for reading.
    pub const READ: Access = Access(2);
    /// Open for writing.
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// Reads letters of `rwm` in any order, at least one, none twice.
    pub fn parse(text: &str) -> Option<Access> {
        let mut bits = 0;
        for letter in text.bytes() {
            let bit = match letter {
                b'r' => 2,
                b'w' => 4,
                b'm' => 1,
                _ => return None,
            };
            if bits & bit != 0 {
                return None;
            }
            bits |= bit;
        }
        (bits != 0).then_some(Access(bits))
    }

    fn text(self) -> String {
        [(2, 'r'), (4, 'w'), (1, 'm')].iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, c)| *c).collect()
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Which nodes.
    pub kind: DeviceKind,
    /// Major number, `None` for any.
    pub major: Option<u32>,
    /// Minor number, `None` for any.
    pub minor: Option<u32>,
    /// Which access.
    pub access: Access,
}

/// Most rules in one group; the kernel's own limit on v2 is higher.
const MAX_RULES: usize = 1000;

impl DeviceRule {
    /// An allowing rule.
    pub fn allow(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: Access) -> DeviceRule {
        DeviceRule { allow: true, kind, major, minor, access }
    }

    /// Everything, as for privileged containers.
    pub fn allow_all() -> DeviceRule {
        DeviceRule::allow(DeviceKind::All, None, None, Access::ALL)
    }

    /// Reads the form of `--device-cgroup-rule` and of `devices.allow`: `c 1:3 rwm`, `b *:* m`, `a *:* rwm`.
    pub fn parse_allow(text: &str) -> Option<DeviceRule> {
        let mut fields = text.split(' ');
        let (kind, numbers, access) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        let kind = match kind {
            "a" => DeviceKind::All,
            "c" => DeviceKind::Char,
            "b" => DeviceKind::Block,
            _ => return None,
        };
        let number = |s: &str| -> Option<Option<u32>> {
            match s {
                "*" => Some(None),
                s if s.bytes().all(|b| b.is_ascii_digit()) => Some(Some(s.parse().ok()?)),
                _ => None,
            }
        };
        let (major, minor) = numbers.split_once(':')?;
        Some(DeviceRule::allow(kind, number(major)?, number(minor)?, Access::parse(access)?))
    }

    /// What an ordinary container may use, as runc and Docker have it: any mknod, the memory devices, the
    /// terminals, pts and tun.
    pub fn container_defaults() -> Vec<DeviceRule> {
        let node = |major, minor| DeviceRule::allow(DeviceKind::Char, Some(major), minor, Access::ALL);
        vec![
            DeviceRule::allow(DeviceKind::Char, None, None, Access::MKNOD),
            DeviceRule::allow(DeviceKind::Block, None, None, Access::MKNOD),
            node(1, Some(3)),
            node(1, Some(5)),
            node(1, Some(7)),
            node(1, Some(8)),
            node(1, Some(9)),
            node(5, Some(0)),
            node(5, Some(1)),
            node(5, Some(2)),
            node(10, Some(200)),
            node(136, None),
        ]
    }

    fn is_everything(&self) -> bool {
        *self == DeviceRule { allow: self.allow, ..DeviceRule::allow_all() }
    }

    /// Lines for `devices.allow` or `devices.deny`; v1 takes letter `a` for everything only, so a partial rule
    /// about both kinds is two.
    pub(crate) fn v1_lines(&self) -> Vec<String> {
        if self.is_everything() {
            return vec!["a".to_owned()];
        }
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let tail = format!("{}:{} {}", number(self.major), number(self.minor), self.access.text());
        match self.kind {
            DeviceKind::Char => vec![format!("c {tail}")],
            DeviceKind::Block => vec![format!("b {tail}")],
            DeviceKind::All => vec![format!("c {tail}"), format!("b {tail}")],
        }
    }
}

/// Refuses lists no version takes.
pub(crate) fn check(rules: &[DeviceRule]) -> Result<(), Error> {
    let invalid = |value: String, reason| Error::Invalid { control: "device access", value, reason };
    if rules.len() > MAX_RULES {
        return Err(invalid(format!("{} rules", rules.len()), "at most 1000 rules fit one container"));
    }
    for number in rules.iter().flat_map(|r| [r.major, r.minor]).flatten() {
        if number > i32::MAX as u32 {
            return Err(invalid(number.to_string(), "device numbers are below 2147483648"));
        }
    }
    Ok(())
}

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
/// all are.
pub fn device_program(rules: &[DeviceRule]) -> Vec<u64> {
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

    fn naive(rules: &[DeviceRule], kind: DeviceKind, major: u32, minor: u32, access: u8) -> bool {
        for r in rules.iter().rev() {
            let hit = (r.kind == DeviceKind::All || r.kind == kind)
                && r.major.is_none_or(|m| m == major)
                && r.minor.is_none_or(|m| m == minor)
                && if r.allow { access & !r.access.0 == 0 } else { access & r.access.0 != 0 };
            if hit {
                return r.allow;
            }
        }
        false
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
                            let want = naive(&rules, kind, major, minor, access);
                            prop_assert_eq!(got == 1, want, "{:?} {}:{} {}", kind, major, minor, access);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rules_as_text() {
        let rule = DeviceRule::parse_allow("c 1:3 rwm").unwrap();
        assert_eq!(rule.v1_lines(), ["c 1:3 rwm"]);
        assert_eq!(DeviceRule::parse_allow("b *:* m").unwrap().v1_lines(), ["b *:* m"]);
        assert_eq!(DeviceRule::parse_allow("a *:* rwm").unwrap().v1_lines(), ["a"]);
        assert_eq!(DeviceRule::parse_allow("a 7:* r").unwrap().v1_lines(), ["c 7:* r", "b 7:* r"]);
        for bad in [
            "",
            "c",
            "c 1 rwm",
            "x 1:3 rwm",
            "c 1:3 rwx",
            "c 1:3 rr",
            "c 1:3 ",
            "c +1:3 r",
            "c 1:3 rwm x",
            "c 99999999999:1 r",
            "c :1 r\nb *:* rwm",
        ] {
            assert_eq!(DeviceRule::parse_allow(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lists_no_kernel_takes_are_refused() {
        assert!(check(&vec![DeviceRule::allow_all(); 1001]).is_err());
        assert!(check(&[DeviceRule::allow(DeviceKind::Char, Some(u32::MAX), None, Access::READ)]).is_err());
        assert!(check(&DeviceRule::container_defaults()).is_ok());
    }
}
