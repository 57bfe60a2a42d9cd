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
}

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
        Program { instructions, big_endian }
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

    /// The answer to `call`, and how many instructions it took.
    pub fn run(&self, call: &Call) -> (u32, usize) {
        let (mut pc, mut a, mut steps) = (0, 0u32, 0);
        loop {
            let Instruction { code, jt, jf, k } = self.instructions[pc];
            steps += 1;
            pc += 1;
            let taken = match code {
                0x20 => {
                    a = self.word(call, k);
                    continue;
                }
                0x54 => {
                    a &= k;
                    continue;
                }
                0x06 => return (k, steps),
                0x05 => {
                    pc += k as usize;
                    continue;
                }
                0x15 => a == k,
                0x25 => a > k,
                0x35 => a >= k,
                _ => a & k != 0,
            };
            pc += if taken { jt } else { jf };
        }
    }

    pub fn answer(&self, call: &Call) -> u32 {
        self.run(call).0
    }
}
