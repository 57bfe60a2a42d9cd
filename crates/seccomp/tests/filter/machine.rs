//! A classic BPF machine as the kernel has it for seccomp (net/core/filter.c, `seccomp_check_filter`): it runs
//! our programs and libseccomp's alike, and panics where the kernel's checker would refuse one.

use seccomp::Arch;

/// A call as the filter sees it.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub audit: u32,
    pub nr: u32,
    pub args: [u64; 6],
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u16,
    jt: usize,
    jf: usize,
    k: u32,
}

/// A decoded program.
#[derive(Debug)]
pub struct Program {
    instructions: Vec<Instruction>,
    big_endian: bool,
    /// By instruction: a comparison that cannot be meant, see [`Program::is_confused_about`].
    confused: Vec<bool>,
}

/// What the accumulator holds: the word at an offset, under a mask.
type Held = Option<(u32, u32)>;

impl Program {
    /// Decodes and checks `bytes`, made for a kernel of `native`.
    pub fn new(bytes: &[u8], native: Arch) -> Program {
        let big_endian = native.is_big_endian();
        let (raw, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty() && !raw.is_empty() && raw.len() <= 4096, "{} bytes", bytes.len());
        let instructions: Vec<Instruction> = raw
            .iter()
            .map(|i| {
                let (code, k) = ([i[0], i[1]], [i[4], i[5], i[6], i[7]]);
                let (code, k) = if big_endian {
                    (u16::from_be_bytes(code), u32::from_be_bytes(k))
                } else {
                    (u16::from_le_bytes(code), u32::from_le_bytes(k))
                };
                Instruction { code, jt: i[2].into(), jf: i[3].into(), k }
            })
            .collect();
        for (at, i) in instructions.iter().enumerate() {
            let room = instructions.len() - at - 1;
            match i.code {
                0x20 => assert!(i.k.is_multiple_of(4) && i.k <= 60, "load of {}", i.k),
                0x54 | 0x06 => {}
                0x05 => assert!((i.k as usize) < room, "jump out of the program"),
                0x15 | 0x25 | 0x35 | 0x45 => assert!(i.jt < room && i.jf < room, "jump out of the program"),
                other => panic!("instruction {other:#x}"),
            }
        }
        assert_eq!(instructions.last().unwrap().code, 0x06, "a program ends with a return");
        let confused = confused(&instructions);
        Program { instructions, big_endian, confused }
    }

    /// Whether no call meets such a comparison.
    pub fn is_clear(&self) -> bool {
        !self.confused.contains(&true)
    }

    /// Whether the way of `call` through the program meets a comparison that cannot be meant: one that other ways
    /// reach with another word in the accumulator, or one of the architecture with what is none. A compiler
    /// that makes such a program has forgotten to load a word; ours never does.
    pub fn is_confused_about(&self, call: &Call) -> bool {
        !self.is_clear() && self.trace(call).iter().any(|at| self.confused[*at])
    }

    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    fn word(&self, call: &Call, offset: u32) -> u32 {
        match offset {
            0 => call.nr,
            4 => call.audit,
            8 | 12 => 0,
            _ => {
                let arg = call.args[(offset as usize - 16) / 8];
                let second = offset % 8 == 4;
                (if second == self.big_endian { arg } else { arg >> 32 }) as u32
            }
        }
    }

    /// What follows instruction `pc`, and the accumulator then.
    fn step(&self, pc: usize, a: u32, call: &Call) -> (usize, u32) {
        let Instruction { code, jt, jf, k } = self.instructions[pc];
        let next = pc + 1;
        let taken = match code {
            0x20 => return (next, self.word(call, k)),
            0x54 => return (next, a & k),
            0x05 => return (next + k as usize, a),
            0x15 => a == k,
            0x25 => a > k,
            0x35 => a >= k,
            _ => a & k != 0,
        };
        (next + if taken { jt } else { jf }, a)
    }

    /// The answer to `call`, and how many instructions it took.
    pub fn run(&self, call: &Call) -> (u32, usize) {
        let (mut pc, mut a, mut steps) = (0, 0, 1);
        while self.instructions[pc].code != 0x06 {
            (pc, a) = self.step(pc, a, call);
            steps += 1;
        }
        (self.instructions[pc].k, steps)
    }

    pub fn answer(&self, call: &Call) -> u32 {
        self.run(call).0
    }

    fn trace(&self, call: &Call) -> Vec<usize> {
        let (mut pc, mut a) = (0, 0);
        let mut way = vec![pc];
        while self.instructions[pc].code != 0x06 {
            (pc, a) = self.step(pc, a, call);
            way.push(pc);
        }
        way
    }
}

fn confused(instructions: &[Instruction]) -> Vec<bool> {
    let mut held: Vec<Vec<Held>> = vec![Vec::new(); instructions.len()];
    held[0].push(None);
    let mut confused = Vec::new();
    // Jumps go forward only, so that one pass sees every way.
    for (at, i) in instructions.iter().enumerate() {
        let here = std::mem::take(&mut held[at]);
        let of_arch = here.contains(&Some((4, u32::MAX))) && Arch::ALL.iter().all(|arch| arch.audit() != i.k);
        confused.push(matches!(i.code, 0x15 | 0x25 | 0x35 | 0x45) && (here.len() > 1 || of_arch));
        for before in here {
            let (after, targets) = match i.code {
                0x20 => (Some((i.k, u32::MAX)), vec![at + 1]),
                0x54 => (before.map(|(offset, mask)| (offset, mask & i.k)), vec![at + 1]),
                0x05 => (before, vec![at + 1 + i.k as usize]),
                0x06 => continue,
                _ => (before, vec![at + 1 + i.jt, at + 1 + i.jf]),
            };
            for target in targets {
                if !held[target].contains(&after) {
                    held[target].push(after);
                }
            }
        }
    }
    confused
}
