//! The runtime under test with a state directory and a parent group of its own.
//!
//! Invariant: when a [`Runtime`] is dropped, also while a test panics, nothing of it is left on the host; a test that
//! does not panic is failed when something would have been (see [`crate::leaks`]).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{self, Running};
use crate::leaks::Traces;
use crate::{Bundle, Console, Container, Environment, Output};

/// How long a command may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// The runtime under test.
#[derive(Debug)]
pub struct Runtime {
    program: PathBuf,
    root: TempDir,
    name: String,
    wrapper: Vec<OsString>,
    flags: Vec<OsString>,
}

impl Default for Runtime {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime {
    /// The runtime the environment names.
    ///
    /// # Panics
    /// When the environment names none, which [`Environment::get`] tells.
    #[must_use]
    pub fn new() -> Self {
        Self::with_program(&Environment::get().expect("a runtime to test").runtime)
    }

    /// Another program with the same command line, such as a copy that may be attacked.
    ///
    /// # Panics
    /// When there is no place for a temporary directory.
    #[must_use]
    pub fn with_program(program: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("oci-tests-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = tempfile::Builder::new().prefix("oci-state-").tempdir().expect("a directory for the state");
        Self { program: program.to_owned(), root, name, wrapper: Vec::new(), flags: Vec::new() }
    }

    /// Runs every command through these words, such as `["prlimit", "--nofile=64"]`.
    #[must_use]
    pub fn wrapped<S: Into<OsString>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = words.into_iter().map(Into::into).collect();
        self
    }

    /// More flags before the command, such as `["--debug"]`.
    #[must_use]
    pub fn flags<S: Into<OsString>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.flags = flags.into_iter().map(Into::into).collect();
        self
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The directory given as `--root`.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The group, in every hierarchy, below which the containers' groups are.
    #[must_use]
    pub fn parent_group(&self) -> &str {
        &self.name
    }

    /// A command of the runtime, to be changed further.
    #[must_use]
    pub fn command<S: AsRef<str>>(&self, args: &[S]) -> Command {
        let words = self.wrapper.iter().cloned().chain([self.program.clone().into_os_string()]);
        let mut words = words.collect::<Vec<_>>().into_iter();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg("--root").arg(self.root.path()).args(&self.flags);
        command.args(args.iter().map(AsRef::as_ref));
        // By this its processes are found again, whatever becomes of them.
        command.env(crate::leaks::MARK, &self.name).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn call<S: AsRef<str>>(&self, args: &[S]) -> Output {
        self.finish(self.command(args))
    }

    /// Runs a command made by [`Runtime::command`] to its end.
    ///
    /// # Panics
    /// When it does not end within two minutes.
    #[track_caller]
    pub fn finish(&self, command: Command) -> Output {
        command::start(command).finish(PATIENCE)
    }

    /// Runs a command made by [`Runtime::command`] beside the test; gives its process number and its end.
    pub fn beside(&self, command: Command) -> (i32, impl FnOnce() -> Output + use<>) {
        let running: Running = command::start(command);
        (running.pid(), move || running.finish(PATIENCE))
    }

    /// Writes the configuration, with a group below [`Runtime::parent_group`] where it names none. `null` as
    /// `linux.cgroupsPath` means that there is to be none in the document.
    pub fn prepare(&self, bundle: &Bundle) {
        let mut config = bundle.config.clone();
        if let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) {
            match linux.get("cgroupsPath") {
                None => {
                    linux.insert("cgroupsPath".to_owned(), json!(format!("/{}/{}", self.name, bundle.id())));
                }
                Some(Value::Null) => {
                    linux.shift_remove("cgroupsPath");
                }
                Some(_) => {}
            }
        }
        bundle.save_as(&config);
    }

    /// `run` in the foreground: the output is the container's.
    #[track_caller]
    pub fn run(&self, bundle: &Bundle) -> Output {
        self.run_with(bundle, &[])
    }

    /// `run` with more flags.
    #[track_caller]
    pub fn run_with(&self, bundle: &Bundle, flags: &[&str]) -> Output {
        self.prepare(bundle);
        self.finish(self.command_on("run", bundle, flags))
    }

    /// The command that makes the container of a bundle, whose configuration is written already.
    ///
    /// # Panics
    /// When the bundle's path is not UTF-8.
    #[must_use]
    pub fn command_on(&self, verb: &str, bundle: &Bundle, flags: &[&str]) -> Command {
        let dir = bundle.dir().to_str().expect("a UTF-8 path");
        let mut args = vec![verb, "--bundle", dir];
        args.extend(flags);
        args.push(bundle.id());
        self.command(&args)
    }

    /// `run --detach`: a running container.
    #[track_caller]
    pub fn start<'a>(&'a self, bundle: &'a Bundle) -> Container<'a> {
        self.start_with(bundle, &[])
    }

    /// `run --detach` with more flags.
    #[track_caller]
    pub fn start_with<'a>(&'a self, bundle: &'a Bundle, flags: &[&str]) -> Container<'a> {
        let flags: Vec<&str> = ["--detach"].iter().chain(flags).copied().collect();
        let _ = self.run_with(bundle, &flags).ok();
        Container::of(self, bundle)
    }

    /// `create`: a container whose program waits for [`Container::start`].
    #[track_caller]
    pub fn create<'a>(&'a self, bundle: &'a Bundle) -> Container<'a> {
        self.prepare(bundle);
        let _ = self.finish(self.command_on("create", bundle, &[])).ok();
        Container::of(self, bundle)
    }

    /// `run --detach` of a bundle with a terminal, which comes through a console socket.
    #[track_caller]
    pub fn start_on<'a>(&'a self, bundle: &'a Bundle, console: &Console) -> Container<'a> {
        self.start_with(bundle, &["--console-socket", console.path()])
    }

    /// What is on the host because of this runtime, one sentence each. Processes on their way out get a moment.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        self.traces().settled()
    }

    fn traces(&self) -> Traces<'_> {
        Traces { name: &self.name, root: self.root.path() }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.root.path()).into_iter().flatten().flatten() {
            if let Some(id) = entry.file_name().to_str() {
                let _ = self.command(&["delete", "--force", id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            }
        }
        let left = self.leftovers();
        self.traces().remove();
        if !left.is_empty() && !std::thread::panicking() {
            panic!("{} left behind:\n{}", self.program.display(), left.join("\n"));
        }
    }
}

/// Waits until the condition holds.
///
/// # Panics
/// When it does not within the time.
#[track_caller]
pub fn eventually(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(seconds), "{what} did not happen within {seconds} s");
        std::thread::sleep(Duration::from_millis(10));
    }
}
