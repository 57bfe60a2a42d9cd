//! `HOME` for a process whose environment has none: from the image's `/etc/passwd`, which is hostile input.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use sys::path::Root;

/// Most of the file that is looked at, in bytes.
const MAX_FILE: u64 = 10 * 1024 * 1024;
/// Longest line.
const MAX_LINE: u64 = 64 * 1024;

/// The home directory of user `uid` in the image at `rootfs`, or `/`.
pub(crate) fn of(uid: u32, rootfs: &Path) -> String {
    find(uid, rootfs).unwrap_or_else(|| "/".to_owned())
}

fn find(uid: u32, rootfs: &Path) -> Option<String> {
    let root = Root::open(rootfs).ok()?;
    // Neither a pipe nor a terminal may hold us up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = root.open_at("/etc/passwd", flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return None;
    }
    let mut reader = BufReader::new(File::from(file).take(MAX_FILE));
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let fields: Vec<&[u8]> = line.trim_ascii_end().split(|byte| *byte == b':').collect();
        // name:password:uid:gid:comment:home:shell (passwd(5))
        if let [_, _, number, _, _, home, ..] = fields.as_slice()
            && std::str::from_utf8(number).ok().and_then(|number| number.parse::<u32>().ok()) == Some(uid)
        {
            let home = std::str::from_utf8(home).ok().filter(|home| home.starts_with('/') && !home.contains('\0'));
            return home.map(str::to_owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_come_from_a_regular_file_of_the_image_only() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        assert_eq!(of(0, dir.path()), "/");
        std::fs::write(
            etc.join("passwd"),
            "broken\nroot:x:0:0:root:/root:/bin/sh\na:x:1000:1000::/home/a:\nb:x:7:7::rel:\n",
        )
        .unwrap();
        assert_eq!(of(0, dir.path()), "/root");
        assert_eq!(of(1000, dir.path()), "/home/a");
        assert_eq!(of(7, dir.path()), "/", "a relative path is none");
        assert_eq!(of(8, dir.path()), "/");
        std::fs::remove_file(etc.join("passwd")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, etc.join("passwd"), FileType::Fifo, Mode::from_raw_mode(0o644), 0)
            .unwrap();
        assert_eq!(of(0, dir.path()), "/", "a pipe is not waited for");
        std::fs::remove_file(etc.join("passwd")).unwrap();
        std::os::unix::fs::symlink("/../../../../etc/passwd", etc.join("passwd")).unwrap();
        assert_eq!(of(0, dir.path()), "/", "the host's file is out of reach");
    }
}
