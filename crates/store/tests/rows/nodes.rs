//! Devices, pipes and sockets: made as they are, behind a directory nobody else may enter; numbers that no device has and
//! the one that overlayfs takes for a whiteout are refused.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use layer::tar::{Entry, Kind};

use crate::common::tar;
use crate::frame::{hold, layers, refuse};
use crate::raw::{archive, edited, member, octal};

fn node(kind: Kind, (major, minor): (u32, u32)) -> Entry {
    let mut entry = Entry::new("node", kind, 0o4666);
    (entry.major, entry.minor) = (major, minor);
    entry
}

#[test]
fn nodes() {
    layers("nodes::nodes", |_| {
        let bare = |kind: u8, major: u64, minor: u64| {
            archive(&[edited("node", kind, 0, |block| {
                octal(&mut block[329..337], major);
                octal(&mut block[337..345], minor);
            })])
        };
        let linked = tar().file(".wh.f", b"").link("g", Kind::HardLink, "f");
        vec![
            hold(
                "devices and a pipe",
                tar().entry(node(Kind::CharDevice, (1, 3))).dir("d").entry(Entry::new("pipe", Kind::Fifo, 0o600)),
                |tree| {
                    let meta = tree.meta("node");
                    assert!(meta.file_type().is_char_device() && meta.rdev() == rustix::fs::makedev(1, 3));
                    assert!(tree.meta("pipe").file_type().is_fifo());
                },
            ),
            hold("the disk of the host", tar().entry(node(Kind::BlockDevice, (8, 0))), |tree| {
                assert!(tree.meta("node").file_type().is_block_device());
                // Where it can be opened by name, only root gets to it.
                if tree.format == store::Format::Directories {
                    assert_eq!(tree.path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
                } else {
                    let opened = std::fs::File::open(tree.path.join("node")).unwrap_err();
                    assert_eq!(opened.raw_os_error(), Some(rustix::io::Errno::ACCESS.raw_os_error()), "mounted nodev");
                }
            }),
            hold("the largest numbers", bare(b'4', 4095, 1_048_575), |tree| {
                assert_eq!(tree.meta("node").rdev(), rustix::fs::makedev(4095, 1_048_575));
            }),
            refuse("a major number out of range", "device number out of range", bare(b'3', 4096, 0)),
            refuse("a minor number out of range", "device number out of range", bare(b'4', 0, 1_048_576)),
            refuse("a whiteout smuggled in", "reserved for whiteouts", tar().entry(node(Kind::CharDevice, (0, 0)))),
            refuse("a hard link to a whiteout", "hard link to a whiteout", linked),
            refuse("a socket", "unsupported member type", archive(&[member("s", b's', b"")])),
            refuse("a member of many volumes", "unsupported member type", archive(&[member("f", b'M', b"")])),
            refuse(
                "a size where no data is",
                "a size where there is no data",
                archive(&[edited("p", b'6', 512, |_| {}), member("hidden", b'0', b"")]),
            ),
        ]
    });
}
