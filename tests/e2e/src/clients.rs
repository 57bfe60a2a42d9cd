//! Command-line clients as users run them, with everything they printed kept.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A client program aimed at one daemon: the unmodified `docker`, or our `dhow`.
#[derive(Clone, Debug)]
pub struct Client {
    pub program: PathBuf,
    pub host: String,
    /// A directory without anybody's `config.json`.
    pub config: PathBuf,
}

/// A finished command.
#[derive(Clone, Debug)]
pub struct Output {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub stdout_bytes: Vec<u8>,
}

impl Client {
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-H", &self.host]).args(args).env("DOCKER_CONFIG", &self.config).env_remove("DOCKER_HOST");
        command.env("TERM", "xterm").stdin(Stdio::null());
        command
    }

    /// Run to the end, whatever the exit code.
    pub fn try_run(&self, args: &[&str]) -> Output {
        finish(self.command(args), args, None)
    }

    /// Run with the given standard input.
    pub fn try_run_with(&self, args: &[&str], input: &[u8]) -> Output {
        finish(self.command(args), args, Some(input))
    }

    /// Run; anything but exit code 0 fails the test. Returns standard output without the last newline.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        output.expect_code(0);
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// Run something that prints JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.run(args);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("`{}` printed no JSON: {error}\n{text}", args.join(" ")))
    }

    /// The first element of `inspect`.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        self.json(&["inspect", name])[0].clone()
    }

    /// Start and leave running.
    #[track_caller]
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.display()))
    }

    pub fn is_ours(&self) -> bool {
        self.program.file_name() == Some(Path::new("dhow").as_os_str())
    }
}

impl Output {
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code, code,
            "`{}` exited with {} instead of {code}\nstdout: {}\nstderr: {}",
            self.command, self.code, self.stdout, self.stderr
        );
        self
    }

    #[track_caller]
    pub fn expect_error(&self, code: i32, text: &str) -> &Self {
        self.expect_code(code);
        assert!(
            self.stderr.contains(text),
            "`{}` should have said {text:?}\nstdout: {}\nstderr: {}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Run a prepared command to its end; `args` is what messages call it.
pub fn finish(mut command: Command, args: &[&str], input: Option<&[u8]>) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let feeder = input.map(|bytes| {
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let bytes = bytes.to_vec();
        // A thread, because the command may answer before it has read everything; a closed pipe is its right.
        std::thread::spawn(move || {
            let _ = std::io::Write::write_all(&mut stdin, &bytes);
        })
    });
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("cannot wait for {command:?}: {error}"));
    if let Some(feeder) = feeder {
        let _ = feeder.join();
    }
    Output {
        command: args.join(" "),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        stdout_bytes: output.stdout,
    }
}

/// A prepared command as one line for `expect`, which starts programs by their words.
pub fn line(command: &Command) -> String {
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    let mut words = vec!["env".to_owned(), "-i".to_owned()];
    words.extend(command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", text(name), text(value?)))));
    words.push(text(command.get_program()));
    words.extend(command.get_args().map(text));
    words.join(" ")
}
