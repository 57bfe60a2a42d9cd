//! Whole exchanges with a scripted daemon on a Unix socket: version agreement, errors, reuse, uploads, hijacking.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::mpsc,
    thread,
};

use client::{Client, Error, Host};

/// What the scripted daemon saw: one entry per request, and connections as they came.
enum Seen {
    Connection,
    Request(String),
}

/// Serves every connection with `answer`, which gets the request line, the body and the connection.
fn daemon(
    answer: impl Fn(&str, &[u8], &mut UnixStream) + Send + Clone + 'static,
) -> (tempfile::TempDir, Client, mpsc::Receiver<Seen>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, seen) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer, sender) = (stream.unwrap(), answer.clone(), sender.clone());
            let _ = sender.send(Seen::Connection);
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                    let (mut length, mut chunked) = (0, false);
                    loop {
                        let mut header = String::new();
                        reader.read_line(&mut header).unwrap();
                        let header = header.trim().to_ascii_lowercase();
                        if header.is_empty() {
                            break;
                        }
                        if let Some(value) = header.strip_prefix("content-length: ") {
                            length = value.parse().unwrap();
                        }
                        chunked |= header == "transfer-encoding: chunked";
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    while chunked {
                        let mut size = String::new();
                        reader.read_line(&mut size).unwrap();
                        let size = usize::from_str_radix(size.trim(), 16).unwrap();
                        let mut part = vec![0; size + 2];
                        reader.read_exact(&mut part).unwrap();
                        body.extend_from_slice(&part[..size]);
                        chunked = size > 0;
                    }
                    let _ = sender.send(Seen::Request(line.trim().to_owned()));
                    answer(line.trim(), &body, &mut stream);
                }
            });
        }
    });
    let client = Client::new(Host::Unix(path));
    (dir, client, seen)
}

fn reply(stream: &mut UnixStream, status: &str, body: &str) {
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

fn requests(seen: &mpsc::Receiver<Seen>) -> (usize, Vec<String>) {
    let (mut connections, mut lines) = (0, Vec::new());
    while let Ok(one) = seen.try_recv() {
        match one {
            Seen::Connection => connections += 1,
            Seen::Request(line) => lines.push(line),
        }
    }
    (connections, lines)
}

#[test]
fn requests_share_a_connection_and_carry_the_newest_version() {
    let (_dir, client, seen) = daemon(|_, _, stream| reply(stream, "200 OK", "[1]"));
    for _ in 0..3 {
        let list: Vec<i32> = client.get("/x").query("a", "b c").send().unwrap().json().unwrap();
        assert_eq!(list, [1]);
    }
    let (connections, lines) = requests(&seen);
    assert_eq!(connections, 1);
    assert_eq!(lines, vec!["GET /v1.55/x?a=b%20c HTTP/1.1"; 3]);
}

#[test]
fn an_older_daemon_is_asked_again_in_its_own_version() {
    let (_dir, client, seen) = daemon(|line, body, stream| {
        if line.contains("/v1.55/") {
            reply(
                stream,
                "400 Bad Request",
                r#"{"message":"client version 1.55 is too new. Maximum supported API version is 1.51"}"#,
            );
        } else {
            reply(stream, "200 OK", std::str::from_utf8(body).unwrap());
        }
    });
    let echoed: serde_json::Value =
        client.post("/x").json(&serde_json::json!({"a": 1})).unwrap().send().unwrap().json().unwrap();
    assert_eq!(echoed["a"], 1);
    client.get("/y").send_discard().unwrap();
    let (_, lines) = requests(&seen);
    assert_eq!(lines, ["POST /v1.55/x HTTP/1.1", "POST /v1.51/x HTTP/1.1", "GET /v1.51/y HTTP/1.1"]);
}

#[test]
fn a_refused_head_is_asked_again_too() {
    let (_dir, client, _seen) = daemon(|line, _, stream| {
        let status = if line.contains("/v1.55/") { "400 Bad Request" } else { "200 OK" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\nApi-Version: 1.50\r\nContent-Length: 50\r\n\r\n");
    });
    assert_eq!(client.head("/x").send().unwrap().status(), 200);
    assert_eq!(client.version().to_string(), "1.50");
}

#[test]
fn errors_have_status_and_message() {
    let (_dir, client, _seen) = daemon(|line, _, stream| match line {
        _ if line.contains("/json") => reply(stream, "404 Not Found", r#"{"message":"No such container: x"}"#),
        _ if line.contains("/text") => reply(stream, "500 Oops", "plain words\n"),
        _ => {}
    });
    let error = client.get("/json").send().unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "Error response from daemon: No such container: x");
    assert_eq!(client.get("/text").send().unwrap_err().message(), "plain words");
}

#[test]
fn nobody_listening_is_named() {
    let client = Client::new(Host::Unix("/nonexistent/x.sock".into()));
    let error = client.get("/x").send().unwrap_err();
    assert!(matches!(error, Error::Connect { .. }));
    assert!(error.to_string().starts_with("Cannot connect to the Docker daemon at unix:///nonexistent/x.sock"));
}

#[test]
fn a_daemon_that_hangs_up_is_an_error() {
    let (_dir, client, _seen) = daemon(|_, _, stream| {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    assert!(matches!(client.post("/x").send(), Err(Error::Protocol(_))));
}

#[test]
fn an_upload_settles_the_version_first_and_arrives_whole() {
    let (_dir, client, seen) = daemon(|line, body, stream| {
        if line.starts_with("HEAD /_ping") {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nContent-Length: 0\r\n\r\n");
        } else {
            reply(stream, "200 OK", &body.len().to_string());
        }
    });
    let mut upload = client.put("/x").upload().unwrap();
    for _ in 0..100 {
        upload.write_all(&[7; 9_999]).unwrap();
    }
    let count: usize = upload.finish().unwrap().json().unwrap();
    assert_eq!(count, 999_900);
    let (_, lines) = requests(&seen);
    assert_eq!(lines, ["HEAD /_ping HTTP/1.1", "PUT /v1.44/x HTTP/1.1"]);
}

#[test]
fn a_hijacked_connection_goes_both_ways_and_half_closes() {
    let (_dir, client, _seen) = daemon(|_, _, stream| {
        // The first output comes with the head: it must not be lost.
        let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly ";
        stream.write_all(head.as_bytes()).unwrap();
        let mut input = String::new();
        stream.read_to_string(&mut input).unwrap();
        stream.write_all(format!("got {input}").as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let mut connection = client.post("/attach").hijack().unwrap();
    assert_eq!(connection.is_multiplexed(), Some(false));
    let mut writer = connection.writer().unwrap();
    writer.write_all(b"words").unwrap();
    writer.close_write();
    let mut out = String::new();
    connection.read_to_string(&mut out).unwrap();
    assert_eq!(out, "early got words");
}

#[test]
fn two_requests_can_be_under_way_at_once() {
    let (_dir, client, seen) = daemon(|line, _, stream| reply(stream, "200 OK", &format!("{:?}", line.contains("/b"))));
    let (a, b) = (client.get("/a").start().unwrap(), client.get("/b").start().unwrap());
    assert!(b.receive().unwrap().json::<bool>().unwrap());
    assert!(!a.receive().unwrap().json::<bool>().unwrap());
    assert_eq!(requests(&seen).0, 2);
}
