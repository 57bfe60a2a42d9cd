//! A work buffer that costs nothing while idle: anonymous memory whose pages can be given back.
//! Called by `shim`.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

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

/// Lets the kernel unmap the program's own code until it runs again: a process that waits for days
/// should not count pages it used at its start. They stay in the page cache, so coming back is cheap.
pub fn release_program_text() {
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
