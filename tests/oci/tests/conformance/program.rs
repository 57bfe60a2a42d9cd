//! Programs that make one system call and end with its error number, or 0. They are written here byte by byte, so that
//! no compiler has to be on the machine, and come in 32 and in 64 bits.

use oci_tests::Bundle;

/// Where the program is loaded.
const BASE: u64 = 0x40_0000;
/// The bit that makes a call one of the ABI x32 (asm/unistd.h).
pub(crate) const X32: u64 = 0x4000_0000;

/// Where the program lies in the bundle.
pub(crate) const PATH: &str = "/bin/one-call";

/// Puts a program of 64 bits into the bundle that makes the call; none, with a word, on machines it is not for.
pub(crate) fn call(bundle: Bundle, number: u64, args: [u64; 3]) -> Option<Bundle> {
    if !is_for_us() {
        return None;
    }
    let mut code = Vec::new();
    // movabs to rdi, rsi, rdx and rax; syscall.
    for (opcode, value) in
        [([0x48, 0xbf], args[0]), ([0x48, 0xbe], args[1]), ([0x48, 0xba], args[2]), ([0x48, 0xb8], number)]
    {
        code.extend(opcode);
        code.extend(value.to_le_bytes());
    }
    code.extend([0x0f, 0x05]);
    // neg rax; xor edi, edi; test rax, rax; cmovg edi, eax: the error, or 0.
    code.extend([0x48, 0xf7, 0xd8, 0x31, 0xff, 0x48, 0x85, 0xc0, 0x0f, 0x4f, 0xf8]);
    // exit: mov eax, 60; syscall.
    code.extend([0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    Some(bundle.file(PATH, elf64(&code), 0o755).args(&[PATH]))
}

/// As [`call`], in 32 bits.
pub(crate) fn call32(bundle: Bundle, number: u32, args: [u32; 3]) -> Option<Bundle> {
    if !is_for_us() {
        return None;
    }
    let mut code = Vec::new();
    // mov to ebx, ecx, edx and eax; int 0x80.
    for (opcode, value) in [(0xbb, args[0]), (0xb9, args[1]), (0xba, args[2]), (0xb8, number)] {
        code.push(opcode);
        code.extend(value.to_le_bytes());
    }
    code.extend([0xcd, 0x80]);
    // neg eax; xor ebx, ebx; test eax, eax; cmovg ebx, eax; exit: mov eax, 1; int 0x80.
    code.extend([0xf7, 0xd8, 0x31, 0xdb, 0x85, 0xc0, 0x0f, 0x4f, 0xd8, 0xb8, 1, 0, 0, 0, 0xcd, 0x80]);
    Some(bundle.file(PATH, elf32(&code), 0o755).args(&[PATH]))
}

fn is_for_us() -> bool {
    let ours = cfg!(target_arch = "x86_64");
    if !ours {
        eprintln!("left out: the programs that make one system call are for x86-64");
    }
    ours
}

/// An executable with one segment (elf(5)).
fn elf64(code: &[u8]) -> Vec<u8> {
    let size = 64 + 56 + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(2u16.to_le_bytes());
    file.extend(62u16.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for word in [BASE + 64 + 56, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    file.extend(1u32.to_le_bytes());
    file.extend(5u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

fn elf32(code: &[u8]) -> Vec<u8> {
    let base = 0x40_0000u32;
    let size = u32::try_from(52 + 32 + code.len()).expect("a small program");
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend(2u16.to_le_bytes());
    file.extend(3u16.to_le_bytes());
    for word in [1, base + 52 + 32, 52, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [1, 0, base, base, size, size, 5, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}
