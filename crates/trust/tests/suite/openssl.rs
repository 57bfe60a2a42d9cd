//! Keys, signatures and certificates by OpenSSL.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

pub struct Openssl(TempDir);

impl Openssl {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn run(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// `name.key` and `name.pub` of an algorithm as `genpkey` writes it.
    pub fn key(&self, name: &str, algorithm: &str) -> Vec<u8> {
        self.run(&format!("genpkey -algorithm {algorithm} -out {name}.key"));
        self.run(&format!("pkey -in {name}.key -pubout -out {name}.pub"));
        self.read(&format!("{name}.pub"))
    }

    /// A signature by `name.key` with further options of `pkeyutl` or, with a digest, of `dgst`.
    pub fn sign(&self, name: &str, message: &[u8], digest: Option<&str>, options: &str) -> Vec<u8> {
        self.write("message", message);
        match digest {
            Some(digest) => self.run(&format!("dgst -{digest} -sign {name}.key {options} -out signature message")),
            None => self.run(&format!("pkeyutl -sign -rawin -inkey {name}.key {options} -in message -out signature")),
        }
        self.read("signature")
    }

    /// A certificate `name.crt` for `name.key` by `issuer`, or by itself, with extensions.
    pub fn certificate(&self, name: &str, subject: &str, issuer: Option<&str>, extensions: &str, options: &str) {
        self.write("extensions", extensions.as_bytes());
        self.write("empty.cnf", b"[req]\ndistinguished_name=dn\n[dn]\n");
        let made = Command::new("openssl")
            .args([
                "req",
                "-new",
                "-config",
                "empty.cnf",
                "-key",
                &format!("{name}.key"),
                "-out",
                "request",
                "-subj",
                subject,
            ])
            .current_dir(self.0.path())
            .status()
            .unwrap();
        assert!(made.success());
        let signing = match issuer {
            Some(issuer) => format!("-CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial"),
            None => format!("-signkey {name}.key"),
        };
        let days = if options.contains("-days") { "" } else { "-days 3650" };
        self.run(&format!("x509 -req -in request {signing} {days} {options} -extfile extensions -out {name}.crt"));
    }

    /// A certificate as DER.
    pub fn der(&self, name: &str) -> Vec<u8> {
        self.run(&format!("x509 -in {name}.crt -outform DER -out {name}.der"));
        self.read(&format!("{name}.der"))
    }

    #[allow(dead_code, reason = "handy when a test fails")]
    pub fn dir(&self) -> &Path {
        self.0.path()
    }
}
