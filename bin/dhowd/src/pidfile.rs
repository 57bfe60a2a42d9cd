//! The PID file: says which process is the daemon, and refuses a second one.
//!
//! It is a courtesy to init scripts; what really keeps two daemons apart is the engine's lock on
//! the data root.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A written PID file, removed by [`PidFile::remove`].
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the own process id, replacing the file of a process that no longer runs.
    ///
    /// # Errors
    /// Another running daemon's file, or a file that cannot be written.
    pub fn write(path: &Path) -> anyhow::Result<PidFile> {
        if let Ok(text) = std::fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && is_daemon(pid)
        {
            bail!(
                "process with PID {pid} is still running: it wrote {}; stop it first, or give this daemon another --pidfile",
                path.display()
            );
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        // Written aside and renamed: a reader never sees half a number, and a link is not followed.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let written = std::fs::File::create_new(&temporary)
            .and_then(|mut file| writeln!(file, "{}", std::process::id()))
            .and_then(|()| std::fs::rename(&temporary, path));
        if let Err(e) = written {
            let _ = std::fs::remove_file(&temporary);
            return Err(e).with_context(|| format!("cannot write the PID file {}", path.display()));
        }
        Ok(PidFile(path.to_owned()))
    }

    /// Removes the file if it still holds the own process id.
    pub fn remove(&self) {
        match std::fs::read_to_string(&self.0) {
            Ok(text) if text.trim() == std::process::id().to_string() => {
                let _ = std::fs::remove_file(&self.0);
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot read the PID file {}: {e}", self.0.display())
            }
            _ => {}
        }
    }
}

/// Whether the process runs and is a dhowd: after a reboot the number may be anybody's.
fn is_daemon(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim().starts_with("dhowd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/x.pid");
        let first = PidFile::write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), std::process::id().to_string());
        // Ourselves, a foreign process, and rubbish do not keep us out.
        for stale in [std::process::id().to_string(), "1".to_owned(), "rubbish".to_owned()] {
            std::fs::write(&path, stale).unwrap();
            PidFile::write(&path).unwrap();
        }
        std::fs::write(&path, "1\n").unwrap();
        first.remove();
        assert!(path.exists(), "another's file was removed");
        PidFile::write(&path).unwrap().remove();
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_running_daemon_keeps_its_file() {
        // A process named dhowd, without a daemon: any program under that name.
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("dhowd");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let path = dir.path().join("x.pid");
        std::fs::write(&path, child.id().to_string()).unwrap();
        // The kernel lets the parent of a vfork go on a moment before it gives the child its new name.
        while !is_daemon(child.id()) {
            std::thread::yield_now();
        }
        let refused = PidFile::write(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(refused.unwrap_err().to_string().contains("is still running"));
        PidFile::write(&path).unwrap();
    }
}
