//! Bits of Go's `FileMode`, in which the protocol has types and permissions.

/// A directory.
pub const DIRECTORY: u32 = 1 << 31;
/// A symbolic link.
pub const SYMLINK: u32 = 1 << 27;
/// A device; a block device without [`CHARACTER`].
pub const DEVICE: u32 = 1 << 26;
/// A named pipe.
pub const PIPE: u32 = 1 << 25;
/// A socket.
pub const SOCKET: u32 = 1 << 24;
/// Set-user-ID.
pub const SETUID: u32 = 1 << 23;
/// Set-group-ID.
pub const SETGID: u32 = 1 << 22;
/// A character device, with [`DEVICE`].
pub const CHARACTER: u32 = 1 << 21;
/// Sticky.
pub const STICKY: u32 = 1 << 20;
/// All types; a regular file has none.
pub const KIND: u32 = DIRECTORY | SYMLINK | DEVICE | PIPE | SOCKET;
