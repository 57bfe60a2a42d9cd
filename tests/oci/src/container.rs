//! A container that outlives the command that made it; deleted by force when it is dropped.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::{Bundle, Output, Runtime, eventually};

/// A container.
#[derive(Debug)]
pub struct Container<'a> {
    runtime: &'a Runtime,
    /// Its root file system must outlive it.
    bundle: &'a Bundle,
}

impl<'a> Container<'a> {
    /// The container that a command of the test's own has made of the bundle.
    #[must_use]
    pub fn of(runtime: &'a Runtime, bundle: &'a Bundle) -> Self {
        Self { runtime, bundle }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.bundle.id()
    }

    /// What `state` prints.
    ///
    /// # Panics
    /// When there is no such container, or no JSON.
    #[must_use]
    #[track_caller]
    pub fn state(&self) -> Value {
        let output = self.runtime.call(&["state", self.id()]).ok();
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("state is no JSON ({error}): {output}"))
    }

    /// `created`, `running`, `paused`, `stopped`.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_default().to_owned()
    }

    /// The first process, as the host numbers it.
    ///
    /// # Panics
    /// When the state has none.
    #[must_use]
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        pid.filter(|pid| *pid > 0).expect("a process number in the state")
    }

    /// A file of the first process below `/proc`, as the host sees it.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    #[track_caller]
    pub fn proc(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.pid());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
    }

    /// `start`.
    #[track_caller]
    pub fn start(&self) {
        let _ = self.runtime.call(&["start", self.id()]).ok();
    }

    /// `exec`.
    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Output {
        self.exec_with(&[], args)
    }

    /// `exec` with flags before the id.
    #[track_caller]
    pub fn exec_with(&self, flags: &[&str], args: &[&str]) -> Output {
        let words: Vec<&str> = ["exec"].iter().chain(flags).chain(&[self.id()]).chain(args).copied().collect();
        self.runtime.call(&words)
    }

    /// `exec` of a script.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Output {
        self.exec(&["/bin/sh", "-c", script])
    }

    /// `kill` with SIGKILL, and waits for the end.
    #[track_caller]
    pub fn kill(&self) {
        let _ = self.runtime.call(&["kill", self.id(), "KILL"]).ok();
        eventually(30, "the end of the container", || self.status() == "stopped");
    }

    /// `delete`, which must succeed.
    #[track_caller]
    pub fn delete(self) {
        let _ = self.runtime.call(&["delete", self.id()]).ok();
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut command = self.runtime.command(&["delete", "--force", self.id()]);
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
