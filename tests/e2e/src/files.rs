//! A server of files over HTTP, with tags of their versions, that counts what it is asked for.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The server; it ends with this.
#[derive(Debug)]
pub struct FileServer {
    port: u16,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FileServer {
    /// Serve a directory on a port of loopback.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<String>>>::default());
        let (stopped, told, dir) = (Arc::clone(&stop), Arc::clone(&asked), dir.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (dir, told) = (dir.clone(), Arc::clone(&told));
                std::thread::spawn(move || answer(stream, &dir, &told));
            }
        });
        Self { port, stop, asked }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// What was asked for, as `PATH STATUS`, since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn answer(mut stream: TcpStream, dir: &Path, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let target = first.split(' ').nth(1)?.to_owned();
    let (mut known, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        if let Some(tag) = line.to_lowercase().strip_prefix("if-none-match: ") {
            tag.trim().clone_into(&mut known);
        }
        line.clear();
    }
    let path: PathBuf = dir.join(target.split('?').next()?.trim_start_matches('/'));
    let found = std::fs::read(&path).ok().filter(|_| path.starts_with(dir));
    let (status, tag, body) = match found {
        None => ("404 Not Found", String::new(), Vec::new()),
        Some(body) => {
            let sum: u64 = body.iter().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            let tag = format!("\"{sum:x}\"");
            if tag == known { ("304 Not Modified", tag, Vec::new()) } else { ("200 OK", tag, body) }
        }
    };
    let code = status.split(' ').next().unwrap_or_default();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{target} {code}"));
    let head = format!(
        "HTTP/1.1 {status}\r\nETag: {tag}\r\nLast-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}
