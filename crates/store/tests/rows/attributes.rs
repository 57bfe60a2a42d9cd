//! Attributes of members: those that would steer overlayfs or the host's security are dropped, the rest is kept as it
//! is, and numbers out of range are refused.

use std::os::unix::fs::MetadataExt;

use layer::tar::{Entry, Kind};

use crate::common::tar;
use crate::frame::{Row, Tree, hold, layers, refuse};
use crate::raw::{archive, edited, member, pax};

fn with(kind: Kind, keys: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entry = Entry::new("d", kind, 0o755);
    entry.xattrs = keys.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec())).collect();
    tar().entry(entry).bytes()
}

/// `struct vfs_cap_data` with CAP_NET_RAW; revision 3 with a root of its own.
fn capability(root: Option<u32>) -> Vec<u8> {
    let revision: u32 = if root.is_some() { 0x0300_0001 } else { 0x0200_0001 };
    let words = [revision, 1 << 13, 0, 0, 0];
    words.iter().chain(root.as_ref()).flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn attributes_of_the_host() {
    layers("attributes::attributes_of_the_host", |_| {
        let none = |tree: &Tree| assert_eq!(tree.xattrs("d"), []);
        let mut rows: Vec<Row> = Vec::new();
        for key in [
            "trusted.overlay.opaque",
            "trusted.overlay.redirect",
            "trusted.overlay.metacopy",
            "trusted.overlay.overlay.opaque",
            "user.overlay.opaque",
            "user.overlay.redirect",
            "user.overlay.whiteout",
            "trusted.x",
            "security.selinux",
            "security.ima",
            "security.evm",
            "security.apparmor",
            "security.SMACK64",
            "system.nfs4_acl",
            "btrfs.compression",
            "x",
        ] {
            for kind in [Kind::Directory, Kind::File] {
                rows.push(hold(format!("{key} on {kind:?}"), with(kind, &[(key, b"y")]), none));
            }
        }
        rows
    });
}

#[test]
fn capabilities_and_lists() {
    layers("attributes::capabilities_and_lists", |_| {
        let is = |key: &'static str, value: Vec<u8>| {
            move |tree: &Tree| assert_eq!(tree.xattrs("d"), [(key.to_owned(), value.clone())])
        };
        let key = "security.capability";
        let acl = |perm: u16| -> Vec<u8> {
            let entry = |tag: u16, perm: u16, id: u32| {
                [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
            };
            let none = u32::MAX;
            [
                2_u32.to_le_bytes().to_vec(),
                entry(1, 7, none),
                entry(2, perm, 7),
                entry(4, 5, none),
                entry(16, 7, none),
                entry(32, 5, none),
            ]
            .concat()
        };
        let mut broken = acl(7);
        broken.truncate(13);
        vec![
            hold("a capability", with(Kind::File, &[(key, &capability(None))]), is(key, capability(None))),
            refuse("a capability of no form", "invalid argument", with(Kind::File, &[(key, b"all")])),
            refuse("an oversized capability", "invalid argument", with(Kind::File, &[(key, &[1; 400])])),
            hold(
                "a list",
                with(Kind::File, &[("system.posix_acl_access", &acl(6))]),
                is("system.posix_acl_access", acl(6)),
            ),
            refuse("a list of no form", "invalid argument", with(Kind::File, &[("system.posix_acl_access", &broken)])),
            refuse(
                "a default list on a file",
                "permission denied",
                with(Kind::File, &[("system.posix_acl_default", &acl(6))]),
            ),
            hold("a user's", with(Kind::File, &[("user.a", b"b")]), is("user.a", b"b".to_vec())),
            refuse(
                "more bytes than a member may have",
                "extended attributes",
                with(Kind::File, &[("user.a", &vec![1; 300 << 10])]),
            ),
            refuse("a name of 300 bytes", "", with(Kind::File, &[(&format!("user.{}", "n".repeat(300)), b"")])),
            refuse("no name", "without a name", archive(&[pax(&[("SCHILY.xattr.", "x")]), member("f", b'0', b"")])),
        ]
    });
}

#[test]
fn modes_and_owners() {
    layers("attributes::modes_and_owners", |_| {
        let mut setuid = Entry::new("su", Kind::File, 0o6777);
        (setuid.uid, setuid.gid) = (4_294_967_294, 1);
        let base256 = |from: usize, bytes: [u8; 8]| {
            archive(&[edited("f", b'0', 0, |block| block[from..from + 8].copy_from_slice(&bytes))])
        };
        let records = |key: &str, value: &str| archive(&[pax(&[(key, value)]), member("f", b'0', b"")]);
        let mut rows = vec![
            hold("set-user-id and writable for all", tar().entry(setuid), |tree| {
                let meta = tree.meta("su");
                assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o6777, 4_294_967_294, 1));
            }),
            hold(
                "type bits in the mode",
                archive(&[edited("f", b'0', 0, |block| block[100..108].copy_from_slice(b"0120755\0"))]),
                |tree| {
                    assert!(tree.meta("f").is_file() && tree.meta("f").mode() & 0o7777 == 0o755);
                },
            ),
        ];
        for (what, from) in [("uid", 108), ("gid", 116)] {
            rows.push(refuse(format!("{what} 2^32"), "out of range", base256(from, [0x80, 0, 0, 1, 0, 0, 0, 0])));
            rows.push(refuse(
                format!("{what} 2^32 - 1"),
                "out of range",
                base256(from, [0x80, 0, 0, 0, 255, 255, 255, 255]),
            ));
            rows.push(refuse(format!("{what} -1"), "negative", base256(from, [255; 8])));
            rows.push(refuse(format!("{what} 2^62"), "out of range", base256(from, [0xc0, 0, 0, 0, 0, 0, 0, 0])));
            rows.push(refuse(format!("{what} 2^32 in a record"), "out of range", records(what, "4294967296")));
            rows.push(refuse(
                format!("{what} 2^64 in a record"),
                "out of range",
                records(what, "18446744073709551616"),
            ));
            rows.push(refuse(format!("{what} -1 in a record"), "no decimal number", records(what, "-1")));
            rows.push(refuse(format!("{what} as text"), "no decimal number", records(what, "root")));
        }
        rows
    });
}

#[test]
fn times() {
    layers("attributes::times", |_| {
        let seconds = |tree: &Tree| tree.meta("f").mtime();
        let record = |value: &str| archive(&[pax(&[("mtime", value)]), member("f", b'0', b"")]);
        let field = |bytes: [u8; 12]| archive(&[edited("f", b'0', 0, |block| block[136..148].copy_from_slice(&bytes))]);
        let mut least = [0xff; 12];
        least[4..].copy_from_slice(&i64::MIN.to_be_bytes());
        let last = 0x3_7fff_ffff;
        let mut rows = vec![
            hold("0", record("0"), move |tree| assert_eq!(seconds(tree), 0)),
            hold("-2^63", record("-9223372036854775808"), move |tree| assert_eq!(seconds(tree), 0)),
            hold("-2^63 in the header", field(least), move |tree| assert_eq!(seconds(tree), 0)),
            hold("2^63 - 1", record("9223372036854775807"), move |tree| assert_eq!(seconds(tree), last)),
            hold("before 1970 by a fraction", record("-0.5"), move |tree| assert_eq!(seconds(tree), 0)),
            refuse("2^63", "time out of range", record("9223372036854775808")),
            refuse("2^95 in the header", "out of range", field([0x80, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ];
        for value in ["NaN", "inf", "1e400", "-", "1.5.5", "0x10"] {
            rows.push(refuse(value, "time that is no decimal number", record(value)));
        }
        rows
    });
}
