//! What a client should not send: names that lead elsewhere, documents that are too large, requests that are none.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::support::{Api, OCI_MANIFEST, Registry, descriptor, files, image, sha256};

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let registry = Registry::start();
    registry.push_image("a", "t", &[]);
    fs::write(registry.dir.path().join("secret"), "s").unwrap();
    let digest = sha256(b"{}");
    let long = format!("{}b", "a/".repeat(128));
    for name in [
        "..",
        "../..",
        "a/..",
        "a/../b",
        "..%2f..",
        "%2e%2e",
        "%2e%2e/%2e%2e",
        "a%2fb",
        "a%00",
        "%00",
        ".",
        "a/./b",
        "/a",
        "a//b",
        "a/",
        "A",
        "%20",
        "_tags",
        "a/_blobs",
        "a/_manifests",
        "a%5cb",
        "%c3%a9",
        "%ff",
        "a%zz",
        "a%",
        "-a",
        "a-",
        "a..b",
        "a___b",
        &long,
    ] {
        for tail in
            ["manifests/t".to_owned(), "tags/list".to_owned(), format!("blobs/{digest}"), format!("referrers/{digest}")]
        {
            let mut connection = registry.connect();
            let answer = connection.call("GET", &format!("/v2/{name}/{tail}"), &[], b"");
            answer.expect_error(400, "NAME_INVALID");
        }
        for (method, tail) in [("POST", "blobs/uploads/"), ("PUT", "manifests/t"), ("DELETE", "manifests/t")] {
            registry.call(method, &format!("/v2/{name}/{tail}"), &[], b"").expect_error(400, "NAME_INVALID");
        }
        if !name.contains('%') {
            let target = format!("/v2/a/blobs/uploads/?mount={digest}&from={}", name.replace(' ', "%20"));
            registry.call("POST", &target, &[], b"").expect(202);
        }
    }
    let longest = &format!("{}ab", "a/".repeat(127))[..255];
    registry.push_image(longest, "t", &[b"x"]);
    registry.get(&format!("/v2/{longest}/manifests/t")).expect(200);
    for reference in ["..", ".", "%2e%2e", "..%2f..%2fa", "-x", ".x", "a%00", "t%0a", "%c3%a9", &"t".repeat(129), ""] {
        registry.get(&format!("/v2/a/manifests/{reference}")).expect_error(400, "MANIFEST_INVALID");
        let put = registry.call("PUT", &format!("/v2/a/manifests/{reference}"), &[], b"{}");
        put.expect_error(400, "MANIFEST_INVALID");
    }
    for digest in
        ["sha256:..%2f..%2fx", "sha256:", ":", "sha256:ABC", "sha512:00", &format!("sha256:{}", "A".repeat(64))]
    {
        registry.get(&format!("/v2/a/blobs/{digest}")).expect_error(400, "DIGEST_INVALID");
        registry.get(&format!("/v2/a/manifests/{digest}")).expect_error(400, "DIGEST_INVALID");
        registry.delete(&format!("/v2/a/blobs/{digest}")).expect_error(400, "DIGEST_INVALID");
    }
    for id in ["..", "%2e%2e", "..%2fx", "tmp-0", &"0".repeat(32), &"0".repeat(33), &"G".repeat(32)] {
        for method in ["GET", "PATCH", "DELETE", "PUT"] {
            let answer = registry.call(method, &format!("/v2/a/blobs/uploads/{id}?digest={digest}"), &[], b"");
            answer.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
    let outside: Vec<_> = fs::read_dir(registry.dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(outside.len(), 2, "{outside:?}");
    registry.get("/v2/a/manifests/t").expect(200);
}

#[test]
fn links_in_the_directory_do_not_lead_out_of_it() {
    let registry = Registry::start();
    let digest = registry.push_blob("a", b"content");
    fs::write(registry.dir.path().join("secret"), "secret").unwrap();
    let hex = digest.hex();
    let blob = registry.root().join("blobs/sha256").join(&hex[..2]).join(&hex);
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink(registry.dir.path().join("secret"), &blob).unwrap();
    let answer = registry.get(&format!("/v2/a/blobs/{digest}")).expect_error(500, "UNKNOWN");
    assert!(!answer.text().contains("secret") && !answer.text().contains(registry.root().to_str().unwrap()));
    // A link to a directory is resolved below the registry's own, where its target is not.
    let outside = registry.dir.path().join("outside");
    fs::create_dir_all(outside.join("_manifests")).unwrap();
    fs::create_dir_all(outside.join("_tags")).unwrap();
    fs::write(outside.join("_tags/t"), sha256(b"x").to_string()).unwrap();
    std::os::unix::fs::symlink(&outside, registry.root().join("repositories/up")).unwrap();
    registry.get("/v2/up/manifests/t").expect_error(404, "MANIFEST_UNKNOWN");
    registry.get("/v2/up/tags/list").expect_error(404, "NAME_UNKNOWN");
}

#[test]
fn manifests_that_are_too_large() {
    let registry = Registry::start();
    registry.push_blob("a", b"{}");
    let of_size = |size: usize| {
        let mut manifest = image(b"{}", &[]);
        manifest["annotations"] = json!({"pad": ""});
        let rest = size - manifest.to_string().len();
        manifest["annotations"]["pad"] = json!("p".repeat(rest));
        manifest
    };
    registry.put_manifest("a", "most", &of_size(4 << 20)).expect(201);
    registry.get("/v2/a/manifests/most").expect(200);
    registry.put_manifest("a", "more", &of_size((4 << 20) + 1)).expect_error(413, "SIZE_INVALID");
    // Announced only, never sent; and not announced.
    let mut connection = registry.connect();
    connection.send_head("PUT", "/v2/a/manifests/t", &[("Content-Length", "99999999999")]);
    connection.answer("PUT").unwrap().expect_error(413, "SIZE_INVALID");
    let mut connection = registry.connect();
    connection.send_head(
        "PUT",
        "/v2/a/manifests/t",
        &[("Transfer-Encoding", "chunked"), ("Content-Type", OCI_MANIFEST)],
    );
    let piece = vec![b' '; 1 << 20];
    for _ in 0..6 {
        let _ = connection.send(b"100000\r\n");
        let _ = connection.send(&piece);
        let _ = connection.send(b"\r\n");
    }
    connection.answer("PUT").unwrap().expect_error(413, "SIZE_INVALID");
    registry.get("/v2/a/manifests/t").expect_error(404, "MANIFEST_UNKNOWN");

    let many: Vec<_> = (0..10_001).map(|n: u32| descriptor("x/y", &n.to_le_bytes())).collect();
    let mut wide = image(b"{}", &[]);
    wide["layers"] = json!(many);
    registry.put_manifest("a", "wide", &wide).expect_error(400, "MANIFEST_INVALID");
    let deep = format!(r#"{{"schemaVersion":2,"x":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
    let put = registry.call("PUT", "/v2/a/manifests/deep", &[("Content-Type", OCI_MANIFEST)], deep.as_bytes());
    put.expect_error(400, "MANIFEST_INVALID");
}

#[test]
fn requests_that_are_none() {
    let registry = Registry::start();
    for bytes in [
        &b"nonsense\r\n\r\n"[..],
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PUT /v2/a/manifests/t HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"PUT /v2/a/manifests/t HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        b"GET /v2/\0 HTTP/1.1\r\n\r\n",
    ] {
        let mut connection = registry.connect();
        connection.send(bytes).unwrap();
        match connection.head() {
            Ok(answer) => assert_eq!(answer.status, 400, "{}", String::from_utf8_lossy(bytes)),
            Err(e) => assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock, "left waiting"),
        }
    }
    let mut connection = registry.connect();
    let header = "x".repeat(2_000_000);
    let _ = connection.send(format!("GET /v2/ HTTP/1.1\r\nX: {header}\r\n\r\n").as_bytes());
    let answer = connection.head();
    assert!(answer.as_ref().map_or(true, |answer| answer.status == 431), "{answer:?}");
    let mut connection = registry.connect();
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let _ = connection.send(format!("GET /v2/ HTTP/1.1\r\n{many}\r\n").as_bytes());
    assert!(connection.head().map_or(true, |answer| answer.status == 431));
    // Two lengths are one request or none, never two.
    let smuggled = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let mut connection = registry.connect();
    connection.send(smuggled.as_bytes()).unwrap();
    let status = connection.answer("POST").unwrap().status;
    assert!(matches!(status, 202 | 400), "{status}");
    registry.get("/v2/").expect(200);
}

#[test]
fn clients_that_stop_in_the_middle_are_left() {
    let registry = Registry::with(|config| {
        config.limits.head = Duration::from_millis(200);
        config.limits.stall = Duration::from_millis(200);
    });
    // In the head.
    let mut connection = registry.connect();
    connection.send(b"GET /v2/ HTTP/1.1\r\nHost:").unwrap();
    while connection.head().is_ok() {}
    assert!(connection.is_closed());
    // Between requests.
    let mut connection = registry.connect();
    connection.call("GET", "/v2/", &[], b"").expect(200);
    assert!(connection.is_closed());
    // In the body of a manifest, and of an upload, which keeps what arrived.
    let mut connection = registry.connect();
    connection.send_head("PUT", "/v2/a/manifests/t", &[("Content-Length", "100")]);
    connection.answer("PUT").unwrap().expect_error(400, "MANIFEST_INVALID");
    let location = registry.begin("a");
    let mut connection = registry.connect();
    connection.send_head("PATCH", &location, &[("Content-Length", "100")]);
    connection.send(b"some").unwrap();
    let answer = connection.answer("PATCH").unwrap().expect_error(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(answer.must("range"), "0-3");
    // Without reading: the answer is larger than what sockets hold.
    let big = crate::support::noise(30, 64 << 20);
    let digest = registry.push_blob("a", &big);
    let mut connection = registry.connect();
    connection.send_head("GET", &format!("/v2/a/blobs/{digest}"), &[]);
    connection.head().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
    while let Ok(count @ 1..) = connection.read(&mut buffer) {
        read += count;
    }
    assert!(read < big.len(), "the server went on to the end");
}

#[test]
fn connections_of_one_address_are_bounded() {
    let registry = Registry::with(|config| config.limits.connections_per_address = 3);
    let mut open: Vec<_> = (0..3).map(|_| registry.connect()).collect();
    for connection in &mut open {
        connection.call("GET", "/v2/", &[], b"").expect(200);
    }
    assert!(registry.connect().is_closed());
    open.pop();
    // The server sees the end a moment later.
    for _ in 0..500 {
        let mut connection = registry.connect();
        connection.send_head("GET", "/v2/", &[]);
        if connection.answer("GET").is_ok_and(|answer| answer.status == 200) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("a place that became free is not given again");
}

#[test]
fn errors_tell_nothing_of_the_servers_files() {
    let registry = Registry::start();
    registry.push_image("a", "t", &[]);
    let tag = registry.root().join("repositories/a/_tags/t");
    fs::write(&tag, "garbage").unwrap();
    let text = registry.get("/v2/a/manifests/t").expect_error(500, "UNKNOWN").text();
    assert!(!text.contains("_tags") && !text.contains("garbage"), "{text}");
    assert!(files(&registry.root()).contains(&tag));
}
