//! A private place for apt: its own lists of one Debian suite, an empty record of what is installed,
//! and nothing of the host's but its mirror and keys. Packages are fetched and verified, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{peers, shell};

pub struct Apt {
    dir: PathBuf,
    /// The suite preferred over the others.
    suite: String,
}

impl Apt {
    /// Fetches the lists of `suites`, the first of which is preferred.
    pub fn new(dir: PathBuf, suites: &[&str]) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial", "packages", "none"] {
            fs::create_dir_all(dir.join(part)).with_context(|| format!("cannot make {}/{part}", dir.display()))?;
        }
        fs::write(dir.join("status"), "")?;
        let mirror = peers::mirror()?;
        let lines: Vec<String> = suites
            .iter()
            .map(|suite| {
                format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {suite} main")
            })
            .collect();
        fs::write(dir.join("sources.list"), lines.join("\n"))?;
        let suite = suites.first().context("no suite is named")?;
        let apt = Self { dir, suite: (*suite).to_owned() };
        shell::run(apt.command("apt-get").args(["-qq", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = shell::command(program, ["-t", &self.suite]);
        for (option, path) in [
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "none"),
            ("Dir::Etc::preferences", "none"),
            ("Dir::Etc::preferencesparts", "none"),
        ] {
            command.arg("-o").arg(format!("{option}={}", self.dir.join(path).display()));
        }
        // The mirror may be behind a directory that apt's own user cannot enter.
        command.args(["-o", "APT::Sandbox::User=root", "-o", "APT::Architecture=amd64"]);
        // What is booted is a kernel for tests: that a mirror is behind is no reason not to.
        command.args(["-o", "Acquire::Check-Valid-Until=false"]);
        command.current_dir(self.dir.join("packages"));
        command
    }

    /// Names of what installing `package` would bring.
    pub fn closure(&self, package: &str) -> Result<Vec<String>> {
        let mut apt = self.command("apt-get");
        let text = shell::output(apt.args(["install", "--simulate", "--no-install-recommends", package]))?;
        let names = text.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Fetches the packages and unpacks them over each other into `root`.
    pub fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let dir = self.dir.join("packages");
        let mut apt = self.command("apt-get");
        shell::run(apt.args(["-qq", "download"]).args(packages))?;
        let mut found = 0;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                shell::run(shell::command("dpkg-deb", ["--extract"]).arg(&path).arg(root))?;
                fs::remove_file(&path)?;
                found += 1;
            }
        }
        if found != packages.len() {
            bail!("apt fetched {found} of the packages {}", packages.join(", "));
        }
        Ok(())
    }
}
