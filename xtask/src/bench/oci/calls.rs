//! A runtime called as its callers do: `run` in the foreground as by hand; create, start and delete,
//! and exec by a file, with the flags that containerd's shim gives. The caller of these is made a
//! subreaper, as that shim is, and reaps what a detached call leaves to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, WaitOptions, set_child_subreaper, waitpid};

use super::bundle::Bundles;

/// One runtime with directories of its own.
pub struct Runtime {
    pub name: String,
    pub program: PathBuf,
    /// Its `--root`, and beside it its log and pid files.
    dir: PathBuf,
}

impl Runtime {
    pub fn new(name: &str, program: &Path, dir: &Path) -> Result<Self> {
        let dir = dir.join(name);
        fs::create_dir_all(&dir)?;
        Ok(Self { name: name.to_owned(), program: program.to_path_buf(), dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The command line up to the command, without a log as people type it.
    pub fn words(&self) -> Vec<String> {
        vec![shown(&self.program), "--root".to_owned(), shown(&self.file("root"))]
    }

    /// The same with the log that containerd reads.
    fn logged(&self) -> Vec<String> {
        let mut words = self.words();
        words.extend(["--log".to_owned(), shown(&self.file("log.json")), "--log-format".into(), "json".into()]);
        words
    }

    pub fn run_words(&self, bundles: &Bundles) -> Vec<String> {
        joined(self.words(), &["run", "--bundle", &shown(&bundles.ends), "ends"])
    }

    pub fn exec_words(&self) -> Vec<String> {
        joined(self.words(), &["exec", "stays", super::bundle::PROGRAM])
    }

    /// `run`, in the foreground until the container has ended.
    pub fn run(&self, bundles: &Bundles) -> Result<()> {
        self.call(&self.run_words(bundles))
    }

    /// `create`, `start`, the end of the container, `delete`.
    pub fn cycle(&self, bundles: &Bundles) -> Result<()> {
        let pid = self.create(&bundles.ends, "cycle")?;
        self.call(&joined(self.logged(), &["start", "cycle"]))?;
        reap(pid)?;
        self.call(&joined(self.logged(), &["delete", "cycle"]))
    }

    fn create(&self, bundle: &Path, id: &str) -> Result<Pid> {
        let pid_file = self.file("pid");
        let args = ["create", "--bundle", &shown(bundle), "--pid-file", &shown(&pid_file), id];
        self.call(&joined(self.logged(), &args))?;
        read_pid(&pid_file)
    }

    /// Makes and starts the container that execs go into.
    pub fn stay(&self, bundles: &Bundles) -> Result<Pid> {
        let pid = self.create(&bundles.stays, "stays")?;
        self.call(&joined(self.logged(), &["start", "stays"]))?;
        Ok(pid)
    }

    /// Ends it and takes it away.
    pub fn leave(&self, pid: Pid) -> Result<()> {
        self.call(&joined(self.logged(), &["kill", "stays", "KILL"]))?;
        reap(pid)?;
        self.call(&joined(self.logged(), &["delete", "stays"]))
    }

    /// `exec` in the foreground.
    pub fn exec(&self) -> Result<()> {
        self.call(&self.exec_words())
    }

    /// `exec --process --detach` and the end of the process.
    pub fn exec_detached(&self, bundles: &Bundles) -> Result<()> {
        let pid_file = self.file("exec.pid");
        let process = shown(&bundles.process);
        let args = ["exec", "--process", &process, "--detach", "--pid-file", &shown(&pid_file), "stays"];
        self.call(&joined(self.logged(), &args))?;
        reap(read_pid(&pid_file)?)
    }

    /// The largest resident set of `run`, in KiB.
    pub fn peak(&self, bundles: &Bundles) -> Result<u64> {
        let out = self.file("maxrss");
        let mut words = vec![shown(&bundles.maxrss), shown(&out)];
        words.extend(self.run_words(bundles));
        self.call(&words)?;
        let text = fs::read_to_string(&out).context("the peak was not written")?;
        text.trim().parse().context("the peak is not a number")
    }

    /// Takes away what an earlier failure left.
    pub fn clear(&self) {
        for id in ["ends", "cycle", "stays"] {
            let _ = self.call(&joined(self.words(), &["delete", "--force", id]));
        }
    }

    fn call(&self, words: &[String]) -> Result<()> {
        let mut command = Command::new(&words[0]);
        let said = fs::File::create(self.file("stderr"))?;
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let status = command.status().with_context(|| format!("cannot run {}", self.program.display()))?;
        if !status.success() {
            // A line of JSON from most, a document over many lines from crun.
            let read = |name: &str| fs::read_to_string(self.file(name)).unwrap_or_default();
            let log = read("log.json");
            let last = format!("{} {}", log.rsplit("\"msg\"").next().unwrap_or_default(), read("stderr"));
            let last = last.split_whitespace().collect::<Vec<_>>().join(" ");
            bail!("{}: `{}` failed: {status}: {last}", self.name, words[1..].join(" "));
        }
        Ok(())
    }
}

/// Become the parent of what the runtimes detach.
pub fn adopt() -> Result<()> {
    set_child_subreaper(Some(rustix::process::getpid())).context("cannot become a subreaper")
}

fn reap(pid: Pid) -> Result<()> {
    let waited = waitpid(Some(pid), WaitOptions::empty()).context("cannot wait for the container's process")?;
    ensure!(waited.is_some(), "the container's process did not end");
    Ok(())
}

fn read_pid(file: &Path) -> Result<Pid> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.with_context(|| format!("{} holds no pid", file.display()))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn joined(mut words: Vec<String>, more: &[&str]) -> Vec<String> {
    words.extend(more.iter().map(|&word| word.to_owned()));
    words
}
