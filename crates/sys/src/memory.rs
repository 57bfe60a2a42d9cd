//! Memory of a process that is idle most of the time: a work buffer whose pages can be given back, and ways to give
//! back the rest.
//! Called by `shim`.

use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::Errno;

/// Private anonymous memory of fixed size, zero until written.
#[derive(Debug)]
pub struct PageBuffer {
    start: NonNull<u8>,
    len: usize,
}

impl PageBuffer {
    /// Maps `len` bytes; no page is used before it is touched.
    ///
    /// # Errors
    /// What mmap(2) says; `EINVAL` for length 0.
    pub fn new(len: usize) -> Result<Self, Errno> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory in use.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, len })
    }

    /// Gives the pages back to the kernel; the content reads as zero afterwards.
    pub fn discard(&mut self) {
        // SAFETY: the range is exactly our mapping, and `&mut self` shows that nobody looks at its content.
        let _ = unsafe { rustix::mm::madvise(self.start.as_ptr().cast(), self.len, Advice::LinuxDontNeed) };
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is readable for `len` bytes, initialised (to zero) and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, writable, and `&mut self` makes it the only view.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for PageBuffer {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and no view of it can outlive self.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

// SAFETY: plain owned memory, like a boxed slice.
unsafe impl Send for PageBuffer {}

/// Gives freed memory of the C library's allocator back to the kernel. Others than glibc's keep none worth it.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator is free to be called from anywhere but a signal handler, and none is installed.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Waits until `fd` is readable, for at most `timeout`, with the program's own code and constants unmapped: a process
/// that waits for days should not count pages it used at its start. They stay in the page cache, so coming back is
/// cheap.
///
/// # Errors
/// What poll(2) says.
// All code that runs between unmapping and waiting is this function's, so that nothing else is mapped again.
#[inline(never)]
pub fn rest(fd: BorrowedFd<'_>, timeout: Option<&Timespec>) -> Result<(), Errno> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    release_program_text();
    poll(&mut fds, timeout).map(drop)
}

/// Makes [`rest`] cheap, once per program: a page that is touched brings its neighbours along, 64 KiB of them or as
/// much as the page cache holds in one piece, but none beyond the mapping it is in. So the function gets a mapping to
/// itself, told apart from its neighbours by staying out of core dumps.
pub fn prepare_rest() {
    const PAGE: usize = 4096;
    let function = (rest as *const ()).cast::<u8>();
    let start = function.with_addr(function.addr() / PAGE * PAGE).cast_mut();
    // It may reach into the next page, which is code or whatever else the program's file has there.
    // SAFETY: the advice changes no memory, only whether a core dump holds it.
    let _ = unsafe { rustix::mm::madvise(start.cast(), 2 * PAGE, Advice::LinuxDontDump) };
}

#[inline(always)]
fn release_program_text() {
    unsafe extern "C" {
        // Made by the linker: first byte of the image, first byte after its code.
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE: usize = 4096;
    let start = (&raw const __executable_start).addr().next_multiple_of(PAGE);
    let end = (&raw const etext).addr() / PAGE * PAGE;
    if end > start {
        let start_pointer = (&raw const __executable_start).with_addr(start).cast_mut();
        // SAFETY: the range holds headers, constants and code of this program, mapped privately from its
        // file and never written to, so dropping the pages only makes the next use read them again.
        let _ = unsafe { rustix::mm::madvise(start_pointer.cast(), end - start, Advice::LinuxDontNeed) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discarded_pages_read_as_zero() {
        let mut buffer = PageBuffer::new(10_000).unwrap();
        buffer[9_999] = 7;
        buffer.discard();
        assert_eq!(buffer[9_999], 0);
        assert_eq!(buffer.len(), 10_000);
    }
}
