//! Compressed layers: bombs, headers that lie, windows, frames without end, streams that are cut or go on.

use std::io::{Read, Write};

use layer::tar::Limits;
use types::DiffId;

use crate::budget::{Budget, within};
use crate::common::{Canary, formats, root, scratch_with, sha256, tar};
use crate::frame::{Row, Tree, contents, hold, layers, layers_within, refuse};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

/// A layer of one file, and a look at it.
fn layer() -> Vec<u8> {
    tar().file("f", b"data of the file").bytes()
}

fn has_f(tree: &Tree) {
    assert_eq!((tree.names(), tree.text("f")), (vec!["f".to_owned()], "data of the file".to_owned()));
}

/// Zeros by the gigabyte: stopped by what comes out, not by what comes in.
#[test]
fn bombs() {
    // Threads have 2 MiB of stack each, a window 128 MiB: little beside what the bombs would want.
    let budget = Budget { memory: 600 << 20, file: 40 << 20, ..Budget::default() };
    layers_within("compression::bombs", budget, |_| {
        let zeros = || std::io::repeat(0).take(1 << 30);
        let mut encoder = flate2::read::GzEncoder::new(zeros(), flate2::Compression::best());
        let mut small = Vec::new();
        encoder.read_to_end(&mut small).unwrap();
        let big = zstd::encode_all(zeros(), 1).unwrap();
        assert!(small.len() < 2 << 20 && big.len() < 1 << 20);
        let mut xz = liblzma(&vec![0; 64 << 20]);
        let limits = Limits { total_bytes: 8 << 20, trailer_bytes: 1 << 20, ..Limits::default() };
        let members = [layer(), gzip(&[0; 4096]).repeat(20_000)].concat();
        let nested = gzip(&small);
        let in_tar = gzip(&tar().file("zeros", &vec![0; 64 << 20]).bytes());
        let trailer = "bytes after the end mark";
        xz.truncate(xz.len());
        vec![
            refuse("gzip, 1:1000", trailer, small).limits(limits),
            refuse("zstd, 1:10000", trailer, big.clone()).limits(limits),
            refuse("xz", trailer, xz).limits(limits),
            refuse("gzip in gzip", "tar header", nested).limits(limits),
            refuse("a file of zeros", "bytes in all members", in_tar).limits(limits),
            refuse("many members", trailer, [gzip(&layer()), members[layer().len()..].to_vec()].concat())
                .limits(limits),
            refuse("bytes decompressed", "when decompressed", big)
                .limits(Limits { total_bytes: 8 << 20, ..Limits::default() }),
        ]
    });
}

fn liblzma(data: &[u8]) -> Vec<u8> {
    // The store's tests have no encoder for it: the program that made the bytes of old archives.
    let mut child = std::process::Command::new("xz")
        .args(["--stdout", "--fast"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("xz, which Debian's package xz-utils brings");
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(data).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    })
}

#[test]
fn gzip_headers() {
    layers("compression::gzip_headers", |_| {
        let whole = gzip(&layer());
        let body = &whole[10..];
        let head = |flags: u8, fields: &[u8]| [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3], fields, body].concat();
        let named = |length: usize| head(8, &[vec![b'n'; length], vec![0]].concat());
        let extra = head(4, &[&u16::MAX.to_le_bytes()[..], &[7; 65_535]].concat());
        let mut crc = whole.clone();
        let at = crc.len() - 8;
        crc[at] ^= 1;
        let mut size = whole.clone();
        let at = size.len() - 1;
        size[at] ^= 1;
        let mut method = whole.clone();
        method[2] = 7;
        vec![
            hold("a name", named(100), has_f),
            hold("the longest extra field", extra, has_f),
            refuse("a name of 1 MiB", "gzip", named(1 << 20)),
            refuse("a comment of 1 MiB", "gzip", head(16, &[vec![b'n'; 1 << 20], vec![0]].concat())),
            refuse("a name without end", "", head(8, &vec![b'n'; 64 << 20])[..64 << 20].to_vec()),
            refuse("reserved flags", "gzip", head(0xe0, b"")),
            refuse("a wrong checksum of the header", "gzip", head(2, b"\x12\x34")),
            refuse("another method", "gzip", method),
            refuse("a wrong checksum", "checksum", crc),
            refuse("a wrong size", "checksum", size),
        ]
    });
}

#[test]
fn zstd_frames() {
    layers("compression::zstd_frames", |_| {
        let magic = [0x28, 0xb5, 0x2f, 0xfd];
        let whole = zstd(&layer());
        let skippable = |size: u32| [&[0x50, 0x2a, 0x4d, 0x18][..], &size.to_le_bytes()].concat();
        // Frame header: descriptor, window, (dictionary, content size), then a raw last block.
        let frame = |head: &[u8], data: &[u8]| {
            let block = ((data.len() as u32) << 3 | 1).to_le_bytes();
            [&magic[..], head, &block[..3], data].concat()
        };
        let halves = layer();
        let (one, other) = halves.split_at(700);
        vec![
            hold("one frame", whole.clone(), has_f),
            hold("two frames", [zstd(one), zstd(other)].concat(), has_f),
            hold(
                "skippable frames around",
                [skippable(3), b"abc".to_vec(), whole.clone(), skippable(0)].concat(),
                has_f,
            ),
            hold("a flood of skippable frames", [skippable(0).repeat(1_000_000), whole.clone()].concat(), has_f),
            refuse("a skippable frame of 4 GiB", "", [skippable(u32::MAX), whole.clone()].concat()),
            refuse("a window of 2 GiB", "memory", frame(&[0, 0xa8], &layer())),
            refuse("a window of 256 MiB", "memory", frame(&[0, 0x90], &layer())),
            hold("a window of 128 MiB", frame(&[0, 0x88], &layer()), has_f),
            refuse("a dictionary", "dictionary", frame(&[0b1, 0x50, 7], &layer())),
            refuse("less content than said", "", frame(&[0b1010_0000, 255, 255, 255, 255], &layer())),
            refuse("more content than said", "", frame(&[0b0110_0000, 0, 0], &layer())),
            refuse("reserved bits", "", frame(&[0b1000, 0x50], &layer())),
            refuse("a block of the reserved type", "", [&magic[..], &[0, 0x50, 7, 0, 0]].concat()),
            refuse("bytes behind the frame", "", [&whole[..], b"behind the frame"].concat()),
        ]
    });
}

#[test]
fn kinds_of_compression() {
    layers("compression::kinds_of_compression", |_| {
        let bzip2 = {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(&layer()).unwrap();
            encoder.finish().unwrap()
        };
        let second = tar().file("second", b"x").bytes();
        let mut rows: Vec<Row> = vec![
            hold("plain", layer(), has_f),
            hold("gzip", gzip(&layer()), has_f),
            hold("zstd", zstd(&layer()), has_f),
            hold("bzip2", bzip2, has_f),
            hold("xz", liblzma(&layer()), has_f),
            // One stream: what is behind the archive's end is padding, of which the digest is taken.
            hold("a second member of gzip", [gzip(&layer()), gzip(&second)].concat(), has_f),
            hold("a second frame of zstd", [zstd(&layer()), zstd(&second)].concat(), has_f),
            refuse("gzip in zstd", "unexpected eof", zstd(&gzip(&layer()))),
            refuse("gzip, then zstd", "", [gzip(&layer()), zstd(&layer())].concat()),
            refuse("gzip with garbage", "", [&gzip(&layer())[..], b"garbage garbage garbage"].concat()),
        ];
        // Known to others, and no reason to run a program.
        for (what, magic) in [
            ("compress", &b"\x1f\x9d\x90"[..]),
            ("pack", b"\x1f\x1e"),
            ("lzip", b"LZIP\x01"),
            ("lz4", b"\x04\x22\x4d\x18"),
            ("lzma", b"\x5d\0\0\x80\0"),
            ("lzop", b"\x89LZO\0"),
            ("zip", b"PK\x03\x04"),
            ("7z", b"7z\xbc\xaf\x27\x1c"),
            ("squashfs", b"hsqs"),
        ] {
            rows.push(refuse(what, "tar header", [magic, &[7; 2000]].concat()));
        }
        rows
    });
}

/// A layer cut anywhere, or with one byte more.
#[test]
fn layers_cut_anywhere_leave_nothing() {
    if !root() {
        return;
    }
    within("compression::layers_cut_anywhere_leave_nothing", Budget::default(), || {
        for format in formats() {
            let (scratch, canary) = (scratch_with(format), Canary::new());
            let before = contents(&scratch.store);
            let mut long = layer::tar::Entry::new(format!("d/{}", "n".repeat(200)), layer::tar::Kind::File, 0o644);
            long.xattrs.push((b"user.x".to_vec(), vec![7; 600]));
            let link = layer::tar::Kind::HardLink;
            let whole = tar().dir("d").file("d/f", &vec![1; 1500]).entry(long).link("d/h", link, "d/f");
            let whole = whole.file("d/.wh.gone", b"").file("d/.wh..wh..opq", b"").bytes();
            let diff_id = DiffId(sha256(&whole));
            for bytes in [whole.clone(), gzip(&whole), zstd(&whole)] {
                let (digest, size) = (sha256(&bytes), bytes.len() as u64);
                let step = if bytes.len() > 2048 { 256 } else { 1 };
                for cut in (0..bytes.len()).step_by(step) {
                    let ingest = scratch.store.ingest();
                    assert!(
                        ingest.layer(&bytes[..cut], Some((&digest, size)), Some(&diff_id)).is_err(),
                        "cut at {cut}"
                    );
                    // Nor without knowing what to expect, except between members.
                    if cut % 512 != 0 {
                        assert!(ingest.layer(&bytes[..cut], None, Some(&diff_id)).is_err(), "cut at {cut}");
                    }
                }
                let more = [&bytes[..], b"\0"].concat();
                let error = scratch.store.ingest().layer(&more[..], Some((&digest, size)), None).unwrap_err();
                assert!(error.to_string().contains("size mismatch"), "one byte more: {error}");
            }
            assert_eq!(contents(&scratch.store), before);
            canary.check("cut layers");
        }
    });
}
