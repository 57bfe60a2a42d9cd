//! A backward assembler for classic BPF. The machine jumps forward only, so the program is built from
//! its end: an instruction is added in front of what it leads to, and a [`Label`] is the distance from
//! the end. Conditional jumps reach 255 instructions; farther targets get a copy of the return, or
//! an unconditional jump, put in between. Used by `compile` alone.

/// `BPF_MAXINSNS`: the longest program the kernel takes.
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

const LD_ABS: u16 = 0x20;
const ALU_AND: u16 = 0x54;
const JMP_JA: u16 = 0x05;
const JMP_JEQ: u16 = 0x15;
const JMP_JGE: u16 = 0x35;
const RET_K: u16 = 0x06;

/// `struct sock_filter` of linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// Position of an instruction, counted from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Label(usize);

/// How a conditional jump compares the accumulator with its constant, unsigned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Test {
    Equal,
    GreaterOrEqual,
}

/// The program so far, last instruction first.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    reversed: Vec<Instruction>,
    /// Nearest return of each value; a profile has a handful.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// Instructions between one added now and `to`.
    fn distance(&self, to: Label) -> usize {
        self.reversed.len() - to.0 - 1
    }

    /// `ret #value`
    pub(crate) fn ret(&mut self, value: u32) -> Label {
        let known = self.returns.iter().position(|(known, _)| *known == value);
        if let Some(at) = known
            && self.distance(self.returns[at].1) < 200
        {
            return self.returns[at].1;
        }
        let label = self.push(RET_K, 0, 0, value);
        match known {
            Some(at) => self.returns[at].1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    /// A place just before here that leads to `to`.
    fn bridge(&mut self, to: Label) -> Label {
        let target = self.reversed[to.0];
        if target.code == RET_K {
            return self.ret(target.k);
        }
        // A program is at most a few thousand instructions when it is accepted, and grows by one at a time.
        let skip = u32::try_from(self.distance(to)).unwrap_or(u32::MAX);
        self.push(JMP_JA, 0, 0, skip)
    }

    /// Makes `next` what follows physically.
    fn fall_through(&mut self, next: Label) {
        if next.0 + 1 != self.reversed.len() {
            let target = self.reversed[next.0];
            if target.code == RET_K {
                self.push(RET_K, 0, 0, target.k);
            } else {
                let skip = u32::try_from(self.distance(next)).unwrap_or(u32::MAX);
                self.push(JMP_JA, 0, 0, skip);
            }
        }
    }

    /// `ld [offset]` of `struct seccomp_data`, then `next`.
    pub(crate) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_through(next);
        self.push(LD_ABS, 0, 0, offset)
    }

    /// `and #mask`, then `next`.
    pub(crate) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.fall_through(next);
        self.push(ALU_AND, 0, 0, mask)
    }

    /// Compares the accumulator with `k` and goes to `yes` or `no`.
    pub(crate) fn branch(&mut self, test: Test, k: u32, mut yes: Label, mut no: Label) -> Label {
        if yes == no {
            return yes;
        }
        loop {
            match (u8::try_from(self.distance(yes)), u8::try_from(self.distance(no))) {
                (Ok(jt), Ok(jf)) => {
                    let code = match test {
                        Test::Equal => JMP_JEQ,
                        Test::GreaterOrEqual => JMP_JGE,
                    };
                    return self.push(code, jt, jf, k);
                }
                (Err(_), _) => yes = self.bridge(yes),
                (_, Err(_)) => no = self.bridge(no),
            }
        }
    }

    /// How many instructions there are.
    pub(crate) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// The program in `struct sock_filter` layout, starting at `entry`.
    pub(crate) fn finish(mut self, entry: Label, big_endian: bool) -> Vec<u8> {
        self.fall_through(entry);
        let mut bytes = Vec::with_capacity(self.reversed.len() * 8);
        for i in self.reversed.iter().rev() {
            let (code, k) = if big_endian {
                (i.code.to_be_bytes(), i.k.to_be_bytes())
            } else {
                (i.code.to_le_bytes(), i.k.to_le_bytes())
            };
            bytes.extend_from_slice(&code);
            bytes.extend_from_slice(&[i.jt, i.jf]);
            bytes.extend_from_slice(&k);
        }
        bytes
    }
}
