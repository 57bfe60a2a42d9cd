//! Docker's CLI plugins: programs named `docker-<command>` that bring commands of their own (compose, buildx). A command
//! that is not ours and that a plugin has is handed over to it, with the engine's address in the environment.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Result, error::os_text, session::Session};

/// Directories for plugins of all users, in Docker's order.
const SYSTEM: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/// The plugin that has this command, if there is one.
pub(crate) fn find(config_dir: &Path, command: &str) -> Option<PathBuf> {
    // The name becomes part of a path; only plain words are names of commands.
    if command.is_empty() || !command.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return None;
    }
    let own = config_dir.join("cli-plugins");
    let places = std::iter::once(own).chain(SYSTEM.iter().map(PathBuf::from));
    places.map(|dir| dir.join(format!("docker-{command}"))).find(|path| path.is_file())
}

/// Becomes the plugin; returns only when that fails.
pub(crate) fn exec(program: &Path, words: &[String], session: &Session) -> Result<u8> {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("dhow"));
    let mut command = Command::new(program);
    command.args(words).env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", own);
    command.env("DOCKER_HOST", session.client()?.host().to_string()).env_remove("DOCKER_CONTEXT");
    if let Some(dir) = &session.globals.config_dir {
        command.env("DOCKER_CONFIG", dir);
    }
    let error = command.exec();
    Err(Error::new(format!("cannot run the plugin {}: {}", program.display(), os_text(&error))))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn only_plain_names_are_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cli-plugins")).unwrap();
        std::fs::write(dir.path().join("cli-plugins/docker-zzplug"), "").unwrap();
        std::fs::write(dir.path().join("evil"), "").unwrap();
        assert!(find(dir.path(), "zzplug").is_some());
        assert!(find(dir.path(), "x/../../evil").is_none());
        assert!(find(dir.path(), "zznone").is_none());
    }
}
