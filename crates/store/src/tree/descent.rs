//! The way down a tree, with a bounded number of directories open however deep it is.
//!
//! A tree can be deeper than a process may have descriptors, and a container can make one that is. Only
//! the last directories stay open; on the way back the others are opened again as the parent of the one
//! below, and only when they still are the directory that was left (device and inode number).

use std::io;

use sys::path::Dir;

/// Directories kept open.
const OPEN: usize = 64;

/// The directories from the top of a walk to where it is, each with what the walk keeps of it.
pub struct Descent<T> {
    levels: Vec<Level<T>>,
}

struct Level<T> {
    dir: Option<Dir>,
    device: u64,
    inode: u64,
    kept: T,
}

impl<T> Descent<T> {
    /// A walk that begins in `dir`.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn new(dir: Dir, kept: T) -> io::Result<Self> {
        let mut descent = Self { levels: Vec::new() };
        descent.push(dir, kept)?;
        Ok(descent)
    }

    /// Goes into `dir`, which is one of the directory the walk is in.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn push(&mut self, dir: Dir, kept: T) -> io::Result<()> {
        let stat = rustix::fs::fstat(&dir)?;
        self.levels.push(Level { dir: Some(dir), device: stat.st_dev, inode: stat.st_ino, kept });
        if let Some(far) = self.levels.len().checked_sub(OPEN + 1) {
            self.levels[far].dir = None;
        }
        Ok(())
    }

    /// The directory the walk is in; `None` when it is over.
    pub fn top(&mut self) -> Option<(&Dir, &mut T)> {
        let level = self.levels.last_mut()?;
        Some((level.dir.as_ref()?, &mut level.kept))
    }

    /// Goes back to the directory above.
    ///
    /// # Errors
    /// `ESTALE` when the directory was moved elsewhere meanwhile; the walk is over then.
    pub fn pop(&mut self) -> io::Result<()> {
        let left = self.levels.pop().and_then(|level| level.dir);
        if let (Some(left), Some(top)) = (left, self.levels.last_mut())
            && top.dir.is_none()
        {
            top.dir = Some(left.open_parent(top.device, top.inode)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;
    use sys::path::Root;

    fn open_directories(below: &std::path::Path) -> usize {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|path| path.starts_with(below))).count()
    }

    #[test]
    fn few_are_open_and_the_way_back_is_checked() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Root::open(scratch.path()).unwrap().dir().unwrap();
        let mut descent = Descent::new(dir, 0).unwrap();
        for depth in 1..=300 {
            let (top, _) = descent.top().unwrap();
            top.mkdir("d".as_ref(), Mode::RWXU).unwrap();
            let child = top.open_dir("d".as_ref()).unwrap();
            descent.push(child, depth).unwrap();
        }
        assert!(open_directories(scratch.path()) <= OPEN + 1);
        for depth in (250..300).rev() {
            descent.pop().unwrap();
            assert_eq!(descent.top().map(|(_, depth)| *depth), Some(depth));
        }
        // The directory at depth 201 is moved to the top: the one above it is not its parent any more.
        let from = scratch.path().join("d/".repeat(201));
        std::fs::rename(from, scratch.path().join("moved")).unwrap();
        let error = (0..100).find_map(|_| descent.pop().err()).unwrap();
        assert_eq!(rustix::io::Errno::from_io_error(&error), Some(rustix::io::Errno::STALE));
        assert!(descent.top().is_none());
    }
}
