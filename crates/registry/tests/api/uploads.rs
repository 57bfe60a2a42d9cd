//! Uploads in parts: chunks, streams, where they stand, what is out of order, how they end (distribution-spec, "Pushing
//! a blob in chunks").

use std::fs;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use crate::support::{Api, OCTETS, Registry, assert_blobs_are_sound, files, noise, sha256};

#[test]
fn chunks_in_order() {
    let registry = Registry::start();
    let bytes = noise(20, 700_001);
    let digest = sha256(&bytes);
    let answer = registry.call("POST", "/v2/a/blobs/uploads/", &[("Content-Length", "0")], b"").expect(202);
    let location = answer.must("location").to_owned();
    assert_eq!(answer.must("range"), "0-0");
    assert!(location.ends_with(answer.must("docker-upload-uuid")));
    assert_eq!(registry.get(&location).expect(204).must("range"), "0-0");
    for (start, end) in [(0, 1), (1, 300_000), (300_000, 650_000)] {
        let range = format!("{start}-{}", end - 1);
        let answer = registry.call("PATCH", &location, &[OCTETS, ("Content-Range", &range)], &bytes[start..end]);
        let answer = answer.expect(202);
        assert_eq!(answer.must("range"), format!("0-{}", end - 1));
        assert_eq!(answer.must("location"), location);
        assert_eq!(registry.get(&location).expect(204).must("range"), format!("0-{}", end - 1));
    }
    // The last chunk may come with the end.
    let headers = [OCTETS, ("Content-Range", "650000-700000")];
    registry.call("PUT", &format!("{location}?digest={digest}"), &headers, &bytes[650_000..]).expect(201);
    assert!(registry.get(&format!("/v2/a/blobs/{digest}")).expect(200).body == bytes);

    let location = registry.begin("a");
    registry.call("PATCH", &location, &[("Content-Range", "0-700000")], &bytes).expect(202);
    registry.call("PUT", &format!("{location}?digest={digest}"), &[], b"").expect(201);
}

#[test]
fn chunks_out_of_order_are_refused_and_change_nothing() {
    let registry = Registry::start();
    let bytes = noise(21, 1000);
    let location = registry.begin("a");
    let patch = |range: &str, body: &[u8]| registry.call("PATCH", &location, &[("Content-Range", range)], body);
    patch("100-199", &bytes[100..200]).expect_error(416, "BLOB_UPLOAD_INVALID");
    patch("0-499", &bytes[..500]).expect(202);
    for range in ["0-499", "499-998", "501-999", "600-999", "5-1", "x", "", "500-", "-499", "18446744073709551615-0"] {
        let answer = patch(range, &bytes[500..]).expect_error(416, "BLOB_UPLOAD_INVALID");
        // So that the client can go on.
        assert_eq!((answer.must("range"), answer.must("location")), ("0-499", location.as_str()), "{range}");
    }
    let digest = sha256(&bytes);
    let end = format!("{location}?digest={digest}");
    registry.call("PUT", &end, &[("Content-Range", "600-999")], &bytes[600..]).expect_error(416, "BLOB_UPLOAD_INVALID");
    // More or fewer bytes than promised.
    patch("500-999", &bytes[500..900]).expect_error(400, "SIZE_INVALID");
    patch("500-998", &bytes[500..]).expect_error(400, "SIZE_INVALID");
    assert_eq!(registry.get(&location).expect(204).must("range"), "0-499");
    registry.call("PUT", &end, &[("Content-Range", "500-999")], &bytes[500..]).expect(201);
}

#[test]
fn a_stream_of_unknown_length() {
    let registry = Registry::start();
    let bytes = noise(22, 1_300_000);
    let digest = sha256(&bytes);
    let location = registry.begin("a");
    let mut connection = registry.connect();
    let stream = |range: Option<&str>, target: &str, method: &str, bytes: &[u8]| {
        let mut connection = registry.connect();
        let mut headers = vec![("Transfer-Encoding", "chunked")];
        headers.extend(range.map(|range| ("Content-Range", range)));
        connection.send_head(method, target, &headers);
        for piece in bytes.chunks(77_777) {
            let _ = connection.send(format!("{:x}\r\n", piece.len()).as_bytes());
            let _ = connection.send(piece);
            let _ = connection.send(b"\r\n");
        }
        let _ = connection.send(b"0\r\n\r\n");
        connection.answer(method).unwrap()
    };
    assert_eq!(stream(None, &location, "PATCH", &bytes[..600_000]).expect(202).must("range"), "0-599999");
    // A promise that the stream does not keep is only seen at its end; then none of it counts.
    for range in ["600000-600009", "600000-9999999"] {
        stream(Some(range), &location, "PATCH", &bytes[600_000..]).expect_error(400, "SIZE_INVALID");
        assert_eq!(connection.call("GET", &location, &[], b"").expect(204).must("range"), "0-599999");
    }
    stream(Some("600000-1299999"), &format!("{location}?digest={digest}"), "PUT", &bytes[600_000..]).expect(201);
    assert!(registry.get(&format!("/v2/a/blobs/{digest}")).expect(200).body == bytes);
    assert_blobs_are_sound(&registry.root());
}

#[test]
fn what_arrived_before_a_connection_broke_is_kept() {
    let registry = Registry::start();
    let bytes = noise(23, 900_000);
    let location = registry.begin("a");
    {
        let mut connection = std::net::TcpStream::connect(registry.address()).unwrap();
        use std::io::Write;
        write!(connection, "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n").unwrap();
        connection.write_all(&bytes[..500_000]).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        // Until the server has seen the end.
        let _ = std::io::copy(&mut connection, &mut std::io::sink());
    }
    assert_eq!(registry.get(&location).expect(204).must("range"), "0-499999");
    let digest = sha256(&bytes);
    let headers = [("Content-Range", "500000-899999")];
    registry.call("PUT", &format!("{location}?digest={digest}"), &headers, &bytes[500_000..]).expect(201);
}

#[test]
fn an_upload_is_cancelled() {
    let registry = Registry::start();
    let location = registry.begin("a");
    registry.call("PATCH", &location, &[], b"some").expect(202);
    registry.delete(&location).expect(204);
    registry.get(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    registry.call("PATCH", &location, &[], b"more").expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    registry.delete(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(files(&registry.root().join("uploads")).is_empty());
    // It is its repository's alone.
    let location = registry.begin("a").replace("/v2/a/", "/v2/b/");
    registry.get(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    registry.delete(&location).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn one_request_at_a_time_writes_to_an_upload() {
    let registry = Registry::start();
    let (one, two) = (noise(24, 400_000), noise(25, 400_000));
    let location = registry.begin("a");
    let answers = thread::scope(|scope| {
        let patch = |bytes| {
            let (registry, location) = (&registry, &location);
            scope.spawn(move || registry.call("PATCH", location, &[("Content-Range", "0-399999")], bytes).status)
        };
        let mut answers = [patch(&one), patch(&two)].map(|thread| thread.join().unwrap());
        answers.sort_unstable();
        answers
    });
    assert_eq!(answers, [202, 416]);
    let stands = registry.get(&location).expect(204);
    assert_eq!(stands.must("range"), "0-399999");
    let ends = |bytes: &[u8]| {
        let target = format!("{location}?digest={}", sha256(bytes));
        registry.call("PUT", &target, &[], b"").status
    };
    // Whichever won is there whole; the wrong guess ends the upload.
    let first = ends(&one);
    assert!(first == 201 || (first == 400 && ends(&two) == 404), "{first}");
    assert_blobs_are_sound(&registry.root());
}

#[test]
fn idle_uploads_expire_and_busy_ones_do_not() {
    let registry = Registry::with(|config| config.limits.upload_idle = Duration::from_millis(300));
    let idle = registry.begin("a");
    let busy = registry.begin("a");
    let bytes = noise(26, 40);
    let mut connection = registry.connect();
    for at in 0..40 {
        connection.call("PATCH", &busy, &[("Content-Range", &format!("{at}-{at}"))], &bytes[at..=at]).expect(202);
        thread::sleep(Duration::from_millis(50));
    }
    registry.get(&idle).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    registry.call("PUT", &format!("{busy}?digest={}", sha256(&bytes)), &[], b"").expect(201);
}

#[test]
fn open_uploads_are_bounded() {
    let registry = Registry::with(|config| config.limits.uploads = 3);
    let open: Vec<String> = (0..3).map(|_| registry.begin("a")).collect();
    let answer = registry.call("POST", "/v2/a/blobs/uploads/", &[], b"").expect_error(429, "TOOMANYREQUESTS");
    answer.must("retry-after");
    registry.call("POST", &format!("/v2/a/blobs/uploads/?digest={}", sha256(b"x")), &[], b"x").expect(429);
    assert_eq!(fs::read_dir(registry.root().join("uploads")).unwrap().count(), 3, "what was refused left nothing");
    registry.delete(&open[0]).expect(204);
    registry.push_blob("a", b"x");
    registry.begin("a");
}
