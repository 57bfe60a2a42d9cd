//! A project of the unmodified Docker Compose on one daemon, taken down again when it is dropped, also when a test
//! fails: its containers, networks and volumes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::clients::{self, Client, Output};
use crate::environment::Peers;

#[derive(Debug)]
pub struct Project {
    pub client: Client,
    pub name: String,
    file: PathBuf,
    environment: Vec<(String, String)>,
}

impl Project {
    /// The project of a compose file, in which nothing is started yet.
    #[track_caller]
    pub fn new(peers: &Peers, client: Client, name: &str, file: &Path) -> Self {
        let plugins = client.config.join("cli-plugins");
        fs::create_dir_all(&plugins).expect("a directory for plugins");
        // There already when the test has another project.
        let _ = symlink(peers.compose(), plugins.join("docker-compose"));
        Self { client, name: name.to_owned(), file: file.to_owned(), environment: Vec::new() }
    }

    /// With a variable that the compose file asks for.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let file = self.file.to_str().expect("a UTF-8 path");
        let mut words = vec!["compose", "--progress", "plain", "--project-name", &self.name, "--file", file];
        words.extend(args);
        let mut command = self.client.command(&words);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn try_run(&self, args: &[&str]) -> Output {
        let words: Vec<&str> = ["compose"].iter().chain(args).copied().collect();
        clients::finish(self.command(args), &words, None)
    }

    /// Run; anything but exit code 0 fails the test. Returns standard output without the last newline.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        output.expect_code(0);
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// Run something that prints a JSON document a line.
    #[track_caller]
    pub fn json_lines(&self, args: &[&str]) -> Vec<Value> {
        let text = self.run(args);
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("no JSON: {error}\n{text}"))
    }

    /// `up --detach --wait` with what else is wanted.
    #[track_caller]
    pub fn up(&self, args: &[&str]) {
        self.run(&[&["up", "--detach", "--wait", "--wait-timeout", "120"], args].concat());
    }

    /// Ids of the project's containers, of all services or of those named.
    #[track_caller]
    pub fn ids(&self, services: &[&str]) -> Vec<String> {
        let text = self.run(&[&["ps", "--all", "--quiet", "--no-trunc"], services].concat());
        let mut ids: Vec<String> = text.lines().map(str::to_owned).collect();
        ids.sort_unstable();
        ids
    }

    /// What there is of the project: `(kind, name)` of every container, network and volume.
    #[track_caller]
    pub fn traces(&self) -> Vec<(&'static str, String)> {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        let lists: [(&str, &[&str]); 3] = [
            ("container", &["ps", "--all", "--format", "{{.Names}}"]),
            ("network", &["network", "ls", "--format", "{{.Name}}"]),
            ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
        ];
        let mut found = Vec::new();
        for (kind, list) in lists {
            let text = self.client.run(&[list, &["--filter", &filter]].concat());
            found.extend(text.lines().map(|name| (kind, name.to_owned())));
        }
        found.sort_unstable();
        found
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seen = self.try_run(&["ps", "--all"]).stdout;
            let said = self.try_run(&["logs", "--no-color", "--tail", "20"]).stdout;
            eprintln!("the project {} at the end:\n{seen}{said}", self.name);
        }
        // Of every profile: those that are not asked for by name would stay.
        let _ = self.try_run(&["--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "0"]);
    }
}
