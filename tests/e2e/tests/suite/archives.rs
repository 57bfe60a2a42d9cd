//! Hostile and broken archives in `load`, `import` and `cp`.

use std::fs;
use std::path::Path;

use e2e::Daemon;

/// One ustar header; the tests need control over every field, so no library writes it.
fn header(name: &str, kind: u8, size: u64, link: &str) -> Vec<u8> {
    let mut block = vec![0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, b'0', content.len() as u64, "");
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn finish(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = parts.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn layers_on_disk(daemon: &Daemon) -> usize {
    // A layer lies under the hexadecimal digits of its digest; what else is there is the store's own.
    let entries = fs::read_dir(daemon.data_root().join("layers")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().len() == 64).count()
}

#[test]
fn imports_that_must_fail_fail_and_leave_nothing() {
    let Some(daemon) = Daemon::start() else { return };
    let canary = tempfile::tempdir().unwrap();
    let outside = canary.path().to_str().unwrap();
    let good = file("ok", b"fine");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a parent reference", finish(&[file("../escape", b"x")])),
        ("a parent reference inside", finish(&[file("a/../../escape", b"x")])),
        ("a hard link out", finish(&[header("l", b'1', 0, "../../etc/shadow")])),
        ("a hard link to nothing", finish(&[header("l", b'1', 0, "missing")])),
        ("a bare whiteout", finish(&[file(".wh.", b"")])),
        ("a whiteout of the parent", finish(&[file(".wh...", b"")])),
        ("a wrong checksum", {
            let mut bytes = finish(std::slice::from_ref(&good));
            bytes[0] ^= 0x20;
            bytes
        }),
        ("a truncated file", finish(&[file("big", &[7; 5000])])[..2000].to_vec()),
        ("no archive at all", b"this is not a tar archive, only text of some length".repeat(40)),
        ("a smuggled overlay whiteout", finish(&[header("dev", b'3', 0, "")])),
    ];
    for (what, bytes) in cases {
        let output = daemon.docker().try_run_with(&["import", "-", "hostile:1"], &bytes);
        assert_ne!(output.code, 0, "{what} was imported: {output:?}");
        assert!(!output.stderr.trim().is_empty(), "{what}: no word of why");
        assert_eq!(layers_on_disk(&daemon), 0, "{what} left a layer");
        assert_eq!(daemon.docker().run(&["images", "-aq"]), "", "{what} left an image");
    }
    // Through a link to a directory outside: lands inside the layer or fails, never outside.
    let through = finish(&[header("door", b'2', 0, outside), file("door/file", b"x")]);
    let _ = daemon.docker().try_run_with(&["import", "-", "hostile:2"], &through);
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    assert!(!Path::new("/escape").exists());
}

#[test]
fn every_truncation_of_a_saved_image_is_refused() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let saved = daemon.docker().try_run(&["save", "busybox:latest"]).stdout_bytes;
    daemon.docker().run(&["rmi", "busybox"]);
    for cut in [1, 511, 512, 1500, saved.len() / 3, saved.len() / 2, saved.len() - 20000] {
        let output = daemon.docker().try_run_with(&["load"], &saved[..cut]);
        assert_ne!(output.code, 0, "the first {cut} of {} bytes loaded: {output:?}", saved.len());
        assert_eq!(daemon.docker().run(&["images", "-aq"]), "");
        assert_eq!(layers_on_disk(&daemon), 0, "cut at {cut}");
    }
    daemon.docker().try_run_with(&["load"], &saved).expect_code(0);
}

#[test]
fn a_load_archive_that_points_outside_is_refused() {
    let Some(daemon) = Daemon::start() else { return };
    for manifest in [
        r#"[{"Config":"../../../etc/passwd","RepoTags":["x:1"],"Layers":[]}]"#,
        r#"[{"Config":"config.json","RepoTags":["x:1"],"Layers":["/etc/shadow"]}]"#,
        r#"[{"Config":"config.json","RepoTags":["UPPER//bad"],"Layers":[]}]"#,
        r#"{"not":"a list"}"#,
        "[",
    ] {
        let archive = finish(&[
            file(
                "config.json",
                br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}"#,
            ),
            file("manifest.json", manifest.as_bytes()),
        ]);
        let output = daemon.docker().try_run_with(&["load"], &archive);
        assert_ne!(output.code, 0, "{manifest}: {output:?}");
        assert_eq!(daemon.docker().run(&["images", "-aq"]), "");
    }
    // A link instead of a document.
    let archive = finish(&[header("manifest.json", b'2', 0, "/etc/passwd")]);
    assert_ne!(daemon.docker().try_run_with(&["load"], &archive).code, 0);
}

#[test]
fn copying_a_hostile_archive_in_stays_inside() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let canary = tempfile::tempdir().unwrap();
    let outside = canary.path().to_str().unwrap();
    daemon.docker().run(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
    let archives = [
        finish(&[file("../../../../../../tmp/dhow-escape", b"x")]),
        finish(&[header("door", b'2', 0, outside), file("door/file", b"x")]),
        finish(&[header("l", b'1', 0, "/etc/shadow")]),
        finish(&[file("big", &[7; 9000])])[..3000].to_vec(),
    ];
    for bytes in archives {
        let _ = daemon.docker().try_run_with(&["cp", "-", "c1:/tmp"], &bytes);
    }
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    assert!(!Path::new("/tmp/dhow-escape").exists());
    assert_eq!(daemon.docker().run(&["exec", "c1", "echo", "alive"]), "alive");
}
