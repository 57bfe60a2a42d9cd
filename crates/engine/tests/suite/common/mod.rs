//! An engine of its own for a test: temporary directories, a control group parent with a random
//! name, no bridge, and a busybox image. Everything is removed when it is dropped, even on failure.
//! Skips (gives none) without root, the static busybox of Debian or a built shim.

use std::path::{Path, PathBuf};
use std::time::Duration;

use docker_types::container::{ContainerConfig, ContainerCreateBody, HostConfig};
use engine::{Attached, Engine, EngineConfig, ImportOptions, LogOptions, WaitCondition};
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;

pub struct Host {
    engine: Option<Engine>,
    pub config: EngineConfig,
    pub dir: tempfile::TempDir,
}

/// The shim beside the test binaries, as `cargo build` leaves it.
fn shim() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let path = exe.parent()?.parent()?.join("dhow-shim");
    path.exists().then_some(path)
}

fn skip(why: &str) -> Option<Host> {
    #[allow(clippy::print_stdout, reason = "a skipped test says why")]
    {
        println!("skipped: {why}");
    }
    None
}

pub async fn host() -> Option<Host> {
    if !rustix::process::geteuid().is_root() {
        return skip("needs root");
    }
    let Some(shim) = shim() else { return skip("dhow-shim is not built: cargo build -p dhow-shim") };
    if !Path::new("/bin/busybox").exists() {
        return skip("needs /bin/busybox (package busybox-static)");
    }
    let dir = tempfile::Builder::new().prefix("dhow-engine-").tempdir().unwrap();
    let suffix = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let config = EngineConfig {
        data_root: dir.path().join("data"),
        exec_root: dir.path().join("exec"),
        shim,
        bridge: "none".into(),
        cgroup_parent: format!("/{suffix}"),
        ..EngineConfig::default()
    };
    let engine = Engine::open(config.clone()).await.unwrap();
    let host = Host { engine: Some(engine), config, dir };
    host.import_busybox().await;
    Some(host)
}

impl Host {
    async fn import_busybox(&self) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, mode: u32, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content).unwrap();
        };
        add("bin/busybox", 0o755, &std::fs::read("/bin/busybox").unwrap());
        add("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n");
        add("etc/group", 0o644, b"root:x:0:\nuser:x:1000:\nextra:x:44:user\n");
        add("data/file", 0o600, b"from the image\n");
        for applet in [
            "sh", "echo", "sleep", "cat", "id", "true", "false", "env", "ls", "stty", "tty", "touch", "hostname",
            "mount", "grep", "kill", "head", "dd", "seq", "yes",
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
        }
        let bytes = tar.into_inner().unwrap();
        let options =
            ImportOptions { repo: Some("busybox".into()), tag: Some("latest".into()), ..ImportOptions::default() };
        let body = futures_util::stream::once(async move { Ok(bytes::Bytes::from(bytes)) });
        let mut messages = self.engine().image_import(options, Box::pin(body)).await.unwrap();
        while let Some(message) = messages.next().await {
            assert!(message.error.is_empty(), "{}", message.error);
        }
    }

    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("there is an engine between reopenings")
    }

    /// End the engine; containers keep running.
    pub async fn close(&mut self) {
        if let Some(old) = self.engine.take() {
            old.close().await;
        }
    }

    /// Close and open again, as a new daemon would.
    pub async fn reopen(&mut self) {
        self.close().await;
        self.open().await;
    }

    /// Open after the last engine was closed; its tasks may still hold the lock for a moment.
    pub async fn open(&mut self) {
        for _ in 0..250 {
            match Engine::open(self.config.clone()).await {
                Ok(engine) => {
                    self.engine = Some(engine);
                    return;
                }
                Err(error) if error.to_string().contains("another dhowd") || error.to_string().contains("in use") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the old engine does not let go");
    }

    /// Create; gives the id.
    pub async fn create(&self, cmd: &[&str], change: impl FnOnce(&mut ContainerConfig, &mut HostConfig)) -> String {
        self.try_create(cmd, change).await.unwrap()
    }

    pub async fn try_create(
        &self,
        cmd: &[&str],
        change: impl FnOnce(&mut ContainerConfig, &mut HostConfig),
    ) -> engine::Result<String> {
        let mut config = ContainerConfig {
            image: "busybox".into(),
            cmd: Some(cmd.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>().into()),
            ..ContainerConfig::default()
        };
        let mut host = HostConfig::default();
        change(&mut config, &mut host);
        let body = ContainerCreateBody { config, host_config: Some(host), networking_config: None };
        Ok(self.engine().container_create(None, None, body).await?.id)
    }

    /// Create, start, wait; gives exit code, output and errors as logged.
    pub async fn run(
        &self,
        cmd: &[&str],
        change: impl FnOnce(&mut ContainerConfig, &mut HostConfig),
    ) -> (i64, String, String) {
        let id = self.create(cmd, change).await;
        let wait = self.engine().container_wait(&id, WaitCondition::NextExit).unwrap();
        self.engine().container_start(&id, None).await.unwrap();
        let code = wait.await.unwrap().status_code;
        let (out, err) = self.logs(&id).await;
        (code, out, err)
    }

    /// What is logged, by stream.
    pub async fn logs(&self, id: &str) -> (String, String) {
        let options = LogOptions { stdout: true, stderr: true, ..LogOptions::default() };
        let mut logs = self.engine().container_logs(id, options).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = logs.stream.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        if logs.tty {
            return (String::from_utf8(bytes).unwrap(), String::new());
        }
        demultiplex(&bytes)
    }
}

/// Payloads of stdcopy frames by stream.
pub fn demultiplex(mut frames: &[u8]) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while !frames.is_empty() {
        let length = u32::from_be_bytes(frames[4..8].try_into().unwrap()) as usize;
        let sink = if frames[0] == 2 { &mut err } else { &mut out };
        sink.extend_from_slice(&frames[8..8 + length]);
        frames = &frames[8 + length..];
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Everything an attached client is sent.
pub async fn read_attached(attached: &mut Attached) -> (String, String) {
    let mut bytes = Vec::new();
    attached.stream.read_to_end(&mut bytes).await.unwrap();
    if attached.tty { (String::from_utf8(bytes).unwrap(), String::new()) } else { demultiplex(&bytes) }
}

impl Drop for Host {
    /// Kill what runs, then remove its control groups; the directories go with the `TempDir`.
    fn drop(&mut self) {
        let parent = self.config.cgroup_parent.trim_start_matches('/').to_owned();
        for _ in 0..200 {
            let mut left = false;
            for base in bases() {
                for group in std::fs::read_dir(base.join(&parent)).into_iter().flatten().flatten() {
                    if !group.path().is_dir() {
                        continue;
                    }
                    left = true;
                    thaw(&group.path());
                    let procs = std::fs::read_to_string(group.path().join("cgroup.procs")).unwrap_or_default();
                    for pid in procs.lines().filter_map(|l| l.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    }
                    let _ = std::fs::remove_dir(group.path());
                }
                let _ = std::fs::remove_dir(base.join(&parent));
            }
            if !left {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn bases() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut list: Vec<PathBuf> =
        std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    list.push(root.to_owned());
    list
}

fn thaw(group: &Path) {
    let _ = std::fs::write(group.join("freezer.state"), "THAWED");
    let _ = std::fs::write(group.join("cgroup.freeze"), "0");
}
