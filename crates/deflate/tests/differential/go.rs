//! Go's encoder as a process that answers requests.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub struct Go {
    child: Child,
    requests: Option<ChildStdin>,
    answers: ChildStdout,
}

impl Go {
    /// Builds the program beside this file with the compiler that a variable names.
    pub fn start(variable: &str) -> Option<Self> {
        let Ok(go) = std::env::var(variable) else {
            eprintln!("left out: {variable} does not say where Go is");
            return None;
        };
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = place.join(format!("gzip-{variable}"));
        let built = Command::new(go)
            .args(["build", "-o"])
            .arg(&program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/gzip.go"))
            .env("GO111MODULE", "off")
            .env("GOTOOLCHAIN", "local")
            .env("GOCACHE", place.join(format!("cache-{variable}")))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "Go does not build the program");
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (requests, answers) = (child.stdin.take(), child.stdout.take().unwrap());
        Some(Self { child, requests, answers })
    }

    /// A member in writes of `piece` bytes, or in one if that is 0.
    pub fn gzip(&mut self, level: u8, piece: usize, input: &[u8]) -> Vec<u8> {
        let requests = self.requests.as_mut().unwrap();
        for number in [u32::from(level), piece as u32, input.len() as u32] {
            requests.write_all(&number.to_le_bytes()).unwrap();
        }
        requests.write_all(input).unwrap();
        requests.flush().unwrap();
        let mut length = [0; 4];
        self.answers.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        self.answers.read_exact(&mut answer).unwrap();
        answer
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        // It ends when there are no more requests.
        self.requests = None;
        let _ = self.child.wait();
    }
}
