//! Tar archives put together byte by byte, so that no writer's kindness hides a hole. The tests of this crate and of
//! those above it that need archives no writer would make are the callers.
#![allow(dead_code, reason = "each test binary uses a part")]

/// Bytes of a tar block.
pub const BLOCK: usize = 512;

pub fn octal(field: &mut [u8], value: u64) {
    let text = format!("{value:0width$o}", width = field.len() - 1);
    field[..text.len()].copy_from_slice(text.as_bytes());
}

pub fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
}

pub fn header(name: &str, kind: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    octal(&mut block[100..108], 0o644);
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], 1);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

pub fn edited(name: &str, kind: u8, size: u64, edit: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut block = header(name, kind, size);
    edit(&mut block);
    seal(&mut block);
    block.to_vec()
}

pub fn padded(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    out.resize(data.len().div_ceil(BLOCK) * BLOCK, 0);
    out
}

pub fn member(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    [header(name, kind, data.len() as u64).to_vec(), padded(data)].concat()
}

/// One pax record; its length counts its own digits.
pub fn record(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let (key, value) = (key.as_ref(), value.as_ref());
    let fixed = key.len() + value.len() + 3;
    let mut length = fixed + 1;
    while fixed + length.to_string().len() != length {
        length = fixed + length.to_string().len();
    }
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

pub fn pax<K: AsRef<[u8]>, V: AsRef<[u8]>>(records: &[(K, V)]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    member("pax", b'x', &data)
}

pub fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

pub fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), end()].concat()
}
