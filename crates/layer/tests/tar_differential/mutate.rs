//! Structured changes to archives: fields of headers with the checksum made right again, records of pax headers,
//! headers put in, doubled and taken out, archives cut and joined. All from a seed, so that a case can be made again.

use crate::common::{BLOCK, pax, record, seal};

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring states.
        let mixed = (seed ^ (seed >> 31)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mixed ^ (mixed >> 29) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 33) % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Fields of a header: beginning and end.
const FIELDS: [(usize, usize); 22] = [
    (0, 100),
    (100, 108),
    (108, 116),
    (116, 124),
    (124, 136),
    (124, 136),
    (124, 136),
    (136, 148),
    (148, 156),
    (156, 157),
    (156, 157),
    (157, 257),
    (257, 263),
    (263, 265),
    (265, 297),
    (329, 337),
    (337, 345),
    (345, 500),
    (386, 410),
    (410, 482),
    (482, 495),
    (500, 512),
];

const TYPES: &[u8] = b"0000\0\x0011223344556677xxxgLLKKSSDMVNXA";

const VALUES: [&[u8]; 44] = [
    b"",
    b"0",
    b"7",
    b" 7",
    b"7 ",
    b"0000000\0",
    b"0000644 ",
    b"   644 \0",
    b"00000001000\0",
    b"00000000005",
    b"1000",
    b"777777777777",
    b"-1",
    b"+1",
    b"0x10",
    b"0o17",
    b"1_0",
    b"8",
    b"12\x0034",
    b"12 34",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x05",
    b"\x80\0\0\0\0\0\0\x05",
    b"\x80\0\0\0\0\0\0\0\0\0\x02\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xfe",
    b"\xc0\0\0\0\0\0\0\0\0\0\0\0",
    b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x81\0\0\0\0\0\0\x01",
    b"a/",
    b"/",
    b"/abs",
    b"./x",
    b"a//b",
    b"a/./b",
    b"a\0b",
    b"\xff\xfe",
    b"\xc3\xa9",
    b"ustar\x0000",
    b"ustar  \0",
    b"ustar\0\0\0",
    b"ustar\x00 0",
    b"tar\0",
    b"\t644\n",
    b"\x0b7",
];

const KEYS: [&[u8]; 30] = [
    b"path",
    b"path",
    b"linkpath",
    b"linkpath",
    b"size",
    b"size",
    b"size",
    b"uid",
    b"gid",
    b"mtime",
    b"uname",
    b"charset",
    b"hdrcharset",
    b"comment",
    b"realtime.x",
    b"SCHILY.xattr.user.a",
    b"SCHILY.xattr.",
    b"SCHILY.xattr.user.b=c",
    b"SCHILY.realsize",
    b"LIBARCHIVE.xattr.user.a",
    b"GNU.sparse.major",
    b"GNU.sparse.minor",
    b"GNU.sparse.name",
    b"GNU.sparse.size",
    b"GNU.sparse.realsize",
    b"GNU.sparse.numblocks",
    b"GNU.sparse.offset",
    b"GNU.sparse.numbytes",
    b"GNU.sparse.map",
    b"GNU.dumpdir",
];

const RECORD_VALUES: [&[u8]; 44] = [
    b"",
    b"0",
    b"1",
    b"2",
    b"3",
    b"5",
    b"512",
    b"513",
    b"1000",
    b"5000",
    b"-1",
    b"+5",
    b" 5",
    b"5 ",
    b"05",
    b"0x5",
    b"5_0",
    b"1e3",
    b"5.0",
    b"5.",
    b".5",
    b"-0.5",
    b"-1.25",
    b"1000000000.123456789123",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"4294967295",
    b"4294967294",
    b"a",
    b"a/",
    b"/",
    b"a/b",
    b"./a",
    b"a\0b",
    b"a\nb",
    b"a=b",
    b"\xff",
    b"\xc3\xa9",
    b"BINARY",
    b"ISO-IR 10646 2000 UTF-8",
    b"1000,3,4000,2",
    b"1000,3,4000",
    b"0,5",
];

/// A changed archive made from the seeds.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    let changes = 1 + random.below(3);
    for _ in 0..changes {
        change(random, &mut bytes, seeds);
    }
    // Padding of large holes: the mutations are about headers.
    bytes.truncate(256 << 10);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let heads = heads(bytes);
    let Some(head) = (!heads.is_empty()).then(|| heads[random.below(heads.len())]) else {
        bytes.extend_from_slice(&seeds[random.below(seeds.len())]);
        return;
    };
    match random.below(20) {
        0..=6 => field(random, &mut bytes[head..head + BLOCK]),
        7 | 8 => {
            let at = head + random.below(BLOCK);
            bytes[at] = random.next() as u8;
            reseal(&mut bytes[head..head + BLOCK]);
        }
        9 => {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        10..=13 => records(random, bytes, &heads),
        14 | 15 => {
            let extra = extension(random);
            bytes.splice(head..head, extra);
        }
        16 => {
            let blocks = bytes.len() / BLOCK;
            let at = random.below(blocks) * BLOCK;
            match random.below(4) {
                0 => drop(bytes.splice(at..at, [0; BLOCK])),
                1 => drop(bytes.drain(at..at + BLOCK)),
                2 => {
                    let block = bytes[at..at + BLOCK].to_vec();
                    bytes.splice(head..head, block);
                }
                _ => bytes[at..at + BLOCK].fill(0),
            }
        }
        17 => {
            let at = random.below(bytes.len() + 1);
            bytes.truncate(if random.one_in(2) { at / BLOCK * BLOCK } else { at });
        }
        18 => {
            let whole = seeds[random.below(seeds.len())].clone();
            // With the end mark in the middle, or without.
            if random.one_in(2) {
                while bytes.len() >= BLOCK && bytes[bytes.len() - BLOCK..].iter().all(|byte| *byte == 0) {
                    bytes.truncate(bytes.len() - BLOCK);
                }
            }
            bytes.extend(whole);
        }
        _ => {
            let header = bytes[head..head + BLOCK].to_vec();
            let at = heads[random.below(heads.len())];
            bytes.splice(at..at, header);
        }
    }
}

/// Where headers begin: blocks whose checksum is right.
fn heads(bytes: &[u8]) -> Vec<usize> {
    let right = |block: &[u8]| {
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }))
            .sum();
        let stored = std::str::from_utf8(&block[148..154]).ok().and_then(|text| u32::from_str_radix(text, 8).ok());
        stored == Some(sum)
    };
    (0..bytes.len() / BLOCK).map(|block| block * BLOCK).filter(|at| right(&bytes[*at..at + BLOCK])).collect()
}

fn reseal(block: &mut [u8]) {
    if let Ok(block) = block.try_into() {
        seal(block);
    }
}

fn field(random: &mut Random, block: &mut [u8]) {
    let (from, to) = FIELDS[random.below(FIELDS.len())];
    if from == 156 {
        block[156] = TYPES[random.below(TYPES.len())];
    } else if random.one_in(5) {
        let at = from + random.below(to - from);
        block[at] = *random.pick(&[&b' ', &b'0', &b'7', &0, &b'/', &b'.', &0x80, &0xff, &b'x']);
    } else {
        let value = random.pick(&VALUES);
        let room = (to - from).min(value.len());
        let whole = random.one_in(2);
        if whole {
            block[from..to].fill(*random.pick(&[&0, &0, &b' ', &b'0', &b'a']));
        }
        // Numbers stand at the right when they are short.
        let at = if whole && random.one_in(3) { to - room } else { from };
        block[at..at + room].copy_from_slice(&value[..room]);
    }
    if from != 148 {
        reseal(block);
    }
}

fn some_records(random: &mut Random) -> Vec<u8> {
    let mut data = Vec::new();
    for _ in 0..1 + random.below(4) {
        data.extend(record(random.pick(&KEYS), random.pick(&RECORD_VALUES)));
    }
    data
}

fn extension(random: &mut Random) -> Vec<u8> {
    let name =
        [random.pick(&[&b"name"[..], b"a/b", b"a/", b"x\0y", b"", b"\xff"]), random.pick(&[&b"\0"[..], b"\0", b""])];
    match random.below(8) {
        0..=3 => with_data(b'x', &some_records(random), random),
        4 => with_data(b'g', &some_records(random), random),
        5 | 6 => with_data(b'L', &name.concat(), random),
        _ => with_data(b'K', &name.concat(), random),
    }
}

fn with_data(kind: u8, data: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = crate::common::member("ext", kind, data);
    if matches!(kind, b'L' | b'K') && !random.one_in(4) {
        out[257..265].copy_from_slice(b"ustar  \0");
        reseal(&mut out[..BLOCK]);
    }
    out
}

/// Changes the records of a pax header, or gives a member one.
fn records(random: &mut Random, bytes: &mut Vec<u8>, heads: &[usize]) {
    let extended: Vec<usize> = heads.iter().copied().filter(|at| matches!(bytes[at + 156], b'x' | b'g')).collect();
    if extended.is_empty() {
        let at = heads[random.below(heads.len())];
        let key = random.pick(&KEYS);
        let value = random.pick(&RECORD_VALUES);
        bytes.splice(at..at, pax(&[(key, value)]));
        return;
    }
    let at = extended[random.below(extended.len())];
    let text = std::str::from_utf8(&bytes[at + 124..at + 135]).ok();
    let size = text.and_then(|text| usize::from_str_radix(text.trim(), 8).ok()).unwrap_or(0);
    let from = at + BLOCK;
    let to = (from + size).min(bytes.len());
    let whole = (from + size.div_ceil(BLOCK) * BLOCK).min(bytes.len());
    if from >= to {
        return;
    }
    match random.below(4) {
        0 => {
            // A byte within: a length, a key, a value.
            let at = from + random.below(to - from);
            bytes[at] = *random.pick(&[&b'0', &b'9', &b' ', &b'=', &b'\n', &0, &b'-', &b'+', &0xff, &b'1']);
        }
        1 => {
            let mut data = bytes[from..to].to_vec();
            data.extend(some_records(random));
            replace(bytes, at, whole, &data);
        }
        2 => {
            let mut data = some_records(random);
            data.extend_from_slice(&bytes[from..to]);
            replace(bytes, at, whole, &data);
        }
        _ => {
            let data = some_records(random);
            replace(bytes, at, whole, &data);
        }
    }
}

fn replace(bytes: &mut Vec<u8>, head: usize, end: usize, data: &[u8]) {
    let mut block = bytes[head..head + BLOCK].to_vec();
    block[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    reseal(&mut block);
    bytes.splice(head..end, [block, crate::common::padded(data)].concat());
}
