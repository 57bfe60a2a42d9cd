//! Repositories: `ADD https://….git`, contexts that are repositories. Git itself does the work, from a repository kept for each
//! remote, so that a build fetches what is new.
//!
//! A repository is hostile. Git runs without the machine's configuration, hooks, filters or prompts, and with no protocol
//! but those of networks; what it checks out is files and links, which nothing here follows.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use sys::path::Root;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use types::Kind;

use super::fetched::Fetched;
use super::{Build, Outcome, Vertex};
use crate::error::{Error, Result};
use crate::solve::ssh;
use crate::tree::{Directory, Files};

/// Most bytes that are taken of what git says.
const MAX_OUTPUT: u64 = 16 << 20;

/// Attributes that are known.
const ATTRS: [&str; 8] = [
    "git.fullurl",
    "git.keepgitdir",
    "git.authtokensecret",
    "git.authheadersecret",
    "git.mountsshsock",
    "git.knownsshhosts",
    "git.checksum",
    "git.skipsubmodules",
];

/// What is wanted of which repository.
struct Wanted {
    remote: String,
    reference: String,
    directory: String,
    keep: bool,
    submodules: bool,
    checksum: Option<String>,
    token: Option<String>,
    header: Option<String>,
    /// User and password that the address had.
    password: Option<String>,
    agent: Option<String>,
    known_hosts: Option<String>,
}

impl Wanted {
    fn read(rest: &str, attrs: &HashMap<String, String>) -> Result<Self> {
        if let Some(name) = attrs.keys().find(|name| !ATTRS.contains(&name.as_str())) {
            return Err(Error::new(
                Kind::Unsupported,
                format!("the attribute {name} of git://{rest} is not supported"),
            ));
        }
        let attr = |name: &str| attrs.get(name).filter(|value| !value.is_empty()).cloned();
        let (name, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let remote = attr("git.fullurl").unwrap_or_else(|| format!("https://{name}"));
        let (remote, password) = apart(remote);
        let invalid = |why: &str| Err(Error::new(Kind::Invalid, format!("git source {remote}: {why}")));
        if remote.starts_with('-') || reference.starts_with('-') || remote.contains([' ', '\n', '\0']) {
            return invalid("it would be taken for an option");
        }
        let known = ["https://", "http://", "ssh://", "git://"];
        let host = |text: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
            !text.is_empty() && text.chars().all(good)
        };
        // `user@host:path`; two colons would name a helper of git's.
        let scp = remote
            .split_once(':')
            .is_some_and(|(before, path)| host(before) && !path.starts_with(':') && !path.starts_with("//"));
        if !scp && !known.iter().any(|scheme| remote.starts_with(scheme)) {
            return invalid("the protocol is none of https, http, ssh and git");
        }
        let good = |c: char| !c.is_whitespace() && !c.is_control() && !"~^:?*[\\".contains(c);
        if !reference.chars().all(good) || reference.contains("..") {
            return invalid("its branch, tag or commit is no name of one");
        }
        if directory.split('/').any(|part| part == "..") {
            return invalid("its directory is outside of it");
        }
        let flag = |name: &str| attr(name).is_some_and(|value| value == "true" || value == "1");
        Ok(Self {
            reference: reference.to_owned(),
            directory: directory.trim_matches('/').to_owned(),
            keep: flag("git.keepgitdir"),
            submodules: !flag("git.skipsubmodules"),
            checksum: attr("git.checksum"),
            token: attr("git.authtokensecret"),
            header: attr("git.authheadersecret"),
            password,
            agent: attr("git.mountsshsock"),
            known_hosts: attr("git.knownsshhosts"),
            remote,
        })
    }
}

/// An address, and the user and password that it had: arguments can be read by everybody on the machine, and messages by
/// whoever sees the build. The name of a user of SSH stays.
fn apart(remote: String) -> (String, Option<String>) {
    let Some((scheme, rest)) = remote.split_once("://").filter(|(scheme, _)| *scheme != "ssh") else {
        return (remote, None);
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) => (format!("{scheme}://{host}{path}"), user.contains(':').then(|| percent_decoded(user))),
        None => (remote, None),
    }
}

/// Text without its `%41`. What is no such thing stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What git started as well, which does not end with it: a helper waits for its server for as long as that likes.
struct Group(Option<rustix::process::Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended of itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Whether something is a whole commit.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Git with everything it may know.
struct Git<'a> {
    build: &'a Build,
    vertex: &'a str,
    env: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    /// What a client forwards, for as long as git runs.
    _agent: Option<ssh::Agent>,
    _files: Option<Directory>,
}

impl Build {
    /// A repository's files.
    pub(super) async fn git(
        self: &Arc<Self>,
        vertex: &Vertex,
        rest: &str,
        attrs: &HashMap<String, String>,
    ) -> Result<Outcome> {
        let wanted = Wanted::read(rest, attrs)?;
        let fetched = &self.shared.fetched;
        let _turn = fetched.turn(&wanted.remote).await;
        let git = self.prepare(vertex, &wanted).await?;
        let (full, commit) = git.resolve(&wanted).await?;
        if let Some(sum) = wanted.checksum.as_ref().filter(|sum| !commit.starts_with(sum.as_str())) {
            return Err(Error::new(
                Kind::Invalid,
                format!("expected checksum to match {sum}, got {commit} of {}", wanted.remote),
            ));
        }
        let key = format!(
            "git {commit} {} {} {}",
            if wanted.keep { &wanted.remote } else { "" },
            wanted.submodules,
            wanted.directory
        );
        if let Some(known) = fetched.find(&key) {
            return Ok(Outcome { cached: true, ..known.into() });
        }
        let bare = git.fetch(&wanted, &full, &commit).await?;
        let files = git.check_out(&wanted, &bare, &commit).await?;
        let fetched =
            Fetched { files: Arc::new(files), key: key.clone(), digest: String::new(), validators: (None, None) };
        self.shared.fetched.put(key, fetched.clone());
        Ok(fetched.into())
    }

    async fn prepare<'a>(self: &'a Arc<Self>, vertex: &'a Vertex, wanted: &Wanted) -> Result<Git<'a>> {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut settings = vec![setting("core.hooksPath", "/dev/null")];
        // Nothing that outlives git.
        settings.extend([setting("gc.auto", "0"), setting("maintenance.auto", "false")]);
        let basic = |pair: &str| {
            use base64::Engine as _;
            format!("basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        };
        let header = match &wanted.header {
            Some(id) => self.repository_secret(id, &wanted.remote).await?,
            None => None,
        };
        let header = match (header, &wanted.token) {
            (Some(header), _) => Some(header),
            (None, Some(id)) => {
                let token = self.repository_secret(id, &wanted.remote).await?;
                token.map(|token| basic(&format!("x-access-token:{}", token.trim())))
            }
            (None, None) => None,
        };
        let header = header.or_else(|| wanted.password.as_deref().map(basic));
        if let Some(header) = header.filter(|_| wanted.remote.starts_with("http")) {
            let (scheme, behind) = wanted.remote.split_once("://").unwrap_or(("https", &wanted.remote));
            let host = behind.split('/').next().unwrap_or_default();
            let host = host.rsplit('@').next().unwrap_or(host);
            // For that host alone, wherever it leads to.
            let name = format!("http.{scheme}://{host}/.extraheader");
            settings.push((name, format!("Authorization: {}", header.trim())));
        }
        let mut env = Vec::new();
        let (mut agent, mut files) = (None, None);
        if wanted.agent.is_some() || !wanted.remote.starts_with("http") {
            let place = Directory::new(self.shared.host.secrets())?;
            let hosts = place.path().join("known_hosts");
            let known = wanted.known_hosts.clone().unwrap_or_default();
            std::fs::write(&hosts, &known).map_err(|e| Error::io("cannot write known hosts", e))?;
            let check = if known.is_empty() { "accept-new" } else { "yes" };
            let command = format!(
                "ssh -F /dev/null -o StrictHostKeyChecking={check} -o UserKnownHostsFile={} -o BatchMode=yes",
                hosts.display()
            );
            env.push(("GIT_SSH_COMMAND".to_owned(), command));
            if let Some(id) = &wanted.agent {
                let forwarded = self.agent(id, (0, 0), 0o600).await?;
                if let Some(forwarded) = &forwarded {
                    env.push(("SSH_AUTH_SOCK".to_owned(), forwarded.path().display().to_string()));
                }
                agent = forwarded;
            }
            files = Some(place);
        }
        Ok(Git { build: self, vertex: &vertex.digest, env, settings, _agent: agent, _files: files })
    }

    /// A secret for a repository: the host's own goes before that for all.
    async fn repository_secret(&self, id: &str, remote: &str) -> Result<Option<String>> {
        let host = remote.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
        for id in [format!("{id}.{host}"), id.to_owned()] {
            if let Some(value) = self.secret(&id).await? {
                let text = String::from_utf8(value);
                let text = text.ok().filter(|text| !text.trim().contains(['\n', '\r', '\0']));
                return text
                    .map(Some)
                    .ok_or_else(|| Error::new(Kind::Invalid, format!("secret {id} is no line of text")));
            }
        }
        Ok(None)
    }
}

impl Git<'_> {
    /// Runs git to its end; gives what it prints.
    async fn run<S: AsRef<OsStr>>(&self, env: &[(&str, &OsStr)], args: &[S]) -> Result<String> {
        let mut command = Command::new("git");
        command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).process_group(0);
        command.envs([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "/bin/false"),
            ("SSH_ASKPASS", "/bin/false"),
            ("GIT_ALLOW_PROTOCOL", "https:http:ssh:git"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
        ]);
        // Not as arguments: those can be read by everybody on the machine.
        command.env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (at, (name, value)) in self.settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{at}"), name).env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.envs(env.iter().map(|(name, value)| (*name, *value)));
        let mut child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::new(
                Kind::Unavailable,
                "git is not installed on the daemon's machine: install it, or fetch first",
            ),
            _ => Error::io("cannot run git", e),
        })?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        let mut group = Group(leader);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let reading = async |stream: Option<tokio::process::ChildStdout>| {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                stream.take(MAX_OUTPUT).read_to_end(&mut bytes).await?;
            }
            Ok::<_, std::io::Error>(bytes)
        };
        let telling = async |stream: Option<tokio::process::ChildStderr>| {
            let mut last = Vec::new();
            let Some(mut stream) = stream else { return Ok(last) };
            let mut buffer = vec![0; 8 << 10];
            loop {
                let count = stream.read(&mut buffer).await?;
                let Some(data) = buffer.get(..count).filter(|data| !data.is_empty()) else { break };
                self.build.progress.log(self.vertex, 2, data);
                last.extend_from_slice(data);
                let excess = last.len().saturating_sub(4 << 10);
                last.drain(..excess);
            }
            Ok::<_, std::io::Error>(last)
        };
        let (out, err, status) = tokio::join!(reading(out), telling(err), child.wait());
        group.0 = None;
        let failed = |e| Error::io("cannot run git", e);
        let (out, err, status) = (out.map_err(failed)?, err.map_err(failed)?, status.map_err(failed)?);
        if status.success() {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        let said = String::from_utf8_lossy(&err);
        let said = said.trim().lines().last().unwrap_or_default();
        Err(Error::new(Kind::Invalid, format!("git failed ({status}): {said}")))
    }

    /// The whole name of what is wanted, and its commit.
    async fn resolve(&self, wanted: &Wanted) -> Result<(String, String)> {
        let reference = wanted.reference.as_str();
        if is_commit(reference) {
            return Ok((String::new(), reference.to_owned()));
        }
        let remote = wanted.remote.as_str();
        let mut args = vec!["ls-remote".to_owned(), "--".to_owned(), remote.to_owned()];
        if reference.is_empty() {
            args.push("HEAD".to_owned());
        } else {
            args.extend([reference.to_owned(), format!("{reference}^{{}}")]);
        }
        let listed = self.run(&[], &args).await.map_err(|e| e.context(format_args!("cannot list {remote}")))?;
        let names: HashMap<&str, &str> =
            listed.lines().filter_map(|line| line.split_once('\t')).map(|(commit, name)| (name, commit)).collect();
        let candidates = if reference.is_empty() {
            vec!["HEAD".to_owned()]
        } else {
            vec![
                reference.to_owned(),
                format!("refs/{reference}"),
                format!("refs/tags/{reference}"),
                format!("refs/heads/{reference}"),
            ]
        };
        for name in candidates {
            // A tag with a message leads to the commit.
            let found = names.get(format!("{name}^{{}}").as_str()).or_else(|| names.get(name.as_str()));
            if let Some(commit) = found.filter(|commit| is_commit(commit)) {
                return Ok((name, (*commit).to_owned()));
            }
        }
        Err(Error::new(Kind::NotFound, format!("repository {remote} does not contain ref {reference}")))
    }

    /// The repository that is kept for a remote, with a commit in it.
    async fn fetch(&self, wanted: &Wanted, full: &str, commit: &str) -> Result<PathBuf> {
        let remote = wanted.remote.as_str();
        let name = faster_hex::hex_string(&Sha256::digest(remote.as_bytes()));
        let bare = self.build.shared.repositories.join(name.get(..32).unwrap_or(&name));
        let dir = bare.as_os_str();
        let at: [(&str, &OsStr); 1] = [("GIT_DIR", dir)];
        if !bare.join("HEAD").exists() {
            if bare.exists() {
                crate::tree::remove(&bare).map_err(|e| Error::io("cannot remove half a repository", e))?;
            }
            self.run::<&OsStr>(&[], &[OsStr::new("init"), OsStr::new("--quiet"), OsStr::new("--bare"), dir]).await?;
        }
        let there = [OsStr::new("cat-file"), OsStr::new("-e"), OsStr::new(commit)];
        if self.run(&at, &there).await.is_ok() {
            return Ok(bare);
        }
        let what = if full.is_empty() { commit } else { full };
        let shallow =
            ["fetch", "--quiet", "--no-tags", "--force", "--depth=1", "--no-recurse-submodules", "--", remote, what];
        let failed = match self.run(&at, &shallow).await {
            Ok(_) if self.run(&at, &there).await.is_ok() => return Ok(bare),
            Ok(_) => Error::new(Kind::NotFound, format!("{remote} does not have commit {commit} any more")),
            Err(error) => error,
        };
        // Not every server gives a commit by its name, nor part of a history.
        let mut whole = vec!["fetch", "--quiet", "--force", "--tags", "--no-recurse-submodules"];
        if bare.join("shallow").exists() {
            whole.push("--unshallow");
        }
        whole.extend(["--", remote, "+refs/heads/*:refs/remotes/origin/*"]);
        if self.run(&at, &whole).await.is_ok() && self.run(&at, &there).await.is_ok() {
            return Ok(bare);
        }
        Err(failed.context(format_args!("failed to fetch {remote}")))
    }

    /// A commit's files in a directory of their own.
    async fn check_out(&self, wanted: &Wanted, bare: &Path, commit: &str) -> Result<Directory> {
        let files = Directory::new(&self.build.shared.work)?;
        let top = files.path().to_owned();
        let entry = format!("{commit}:.gitmodules");
        let at: [(&str, &OsStr); 1] = [("GIT_DIR", bare.as_os_str())];
        let modules = wanted.submodules && self.run(&at, &["cat-file", "-e", &entry]).await.is_ok();
        let git_dir = top.join(".git");
        if wanted.keep || modules {
            self.run::<&OsStr>(&[], &[OsStr::new("init"), OsStr::new("--quiet"), top.as_os_str()]).await?;
            let own: [(&str, &OsStr); 3] = [
                ("GIT_DIR", git_dir.as_os_str()),
                ("GIT_WORK_TREE", top.as_os_str()),
                ("GIT_ALLOW_PROTOCOL", OsStr::new("file")),
            ];
            let from = bare.as_os_str();
            let commit_arg = OsStr::new(commit);
            let fetch = ["fetch", "--quiet", "--no-tags", "--depth=1", "--"].map(OsStr::new);
            self.run(&own, &[&fetch[..], &[from, commit_arg][..]].concat()).await?;
            self.run(&own, &["remote", "add", "origin", &wanted.remote]).await?;
            self.run(&own, &["-c", "advice.detachedHead=false", "checkout", "--quiet", "--force", commit]).await?;
        } else {
            let index = top.with_extension("index");
            let own: [(&str, &OsStr); 3] = [
                ("GIT_DIR", bare.as_os_str()),
                ("GIT_WORK_TREE", top.as_os_str()),
                ("GIT_INDEX_FILE", index.as_os_str()),
            ];
            self.run(&own, &["checkout", "--quiet", "--force", commit, "--", "."]).await?;
        }
        if modules {
            let directory = top.as_os_str();
            let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"].map(OsStr::new);
            let whole = [&[OsStr::new("-C"), directory][..], &update[..]].concat();
            let shallow = [&whole[..], &[OsStr::new("--depth=1")][..]].concat();
            // Not every server gives part of a history.
            if self.run(&[], &shallow).await.is_err() {
                self.run(&[], &whole).await.map_err(|e| e.context("cannot fetch its submodules"))?;
            }
        }
        let (keep, directory) = (wanted.keep, wanted.directory.clone());
        let finishing = tokio::task::spawn_blocking(move || finish(files, keep, &directory));
        finishing.await.map_err(|e| Error::io("checking out was interrupted", e))?
    }
}

/// Gives files the permissions that git means, whatever the daemon's mask; removes what is git's own unless it is kept; and
/// looks a directory of it up.
fn finish(files: Directory, keep: bool, directory: &str) -> Result<Directory> {
    let failed = |e: std::io::Error| Error::io("cannot read what was checked out", e);
    let top = files.path().to_owned();
    std::fs::set_permissions(&top, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let mut waiting = vec![top.clone()];
    while let Some(below) = waiting.pop() {
        for entry in std::fs::read_dir(&below).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            if !keep && entry.file_name() == ".git" {
                if kind.is_dir() {
                    crate::tree::remove(&path).map_err(failed)?;
                } else {
                    std::fs::remove_file(&path).map_err(failed)?;
                }
            } else if kind.is_dir() {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
                waiting.push(path);
            } else if kind.is_file() {
                let executable = entry.metadata().map_err(failed)?.permissions().mode() & 0o100 != 0;
                let mode = if executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
            }
        }
    }
    if directory.is_empty() {
        return Ok(files);
    }
    let root = Root::open(&top).map_err(failed)?;
    let mut path = PathBuf::new();
    for part in directory.split('/').filter(|part| !matches!(*part, "" | ".")) {
        path.push(part);
        // A link would lead out of what is shown.
        let (dir, name) = root.parent(&path).map_err(failed)?;
        let stat = dir.lstat(&name).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(Kind::NotFound, format!("subdir not found in the repository: {directory}"))
            }
            _ => failed(e),
        })?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
            return Err(Error::new(Kind::Invalid, format!("subdir {directory} of the repository is no directory")));
        }
    }
    Ok(files.showing(top.join(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_that_cannot_be() {
        let attrs = |remote: &str| HashMap::from([("git.fullurl".to_owned(), remote.to_owned())]);
        for (rest, remote) in [
            ("h/a", "--upload-pack=x"),
            ("h/a", "file:///etc"),
            ("h/a", "/etc"),
            ("h/a", "ext::sh -c true"),
            ("h/a#-x", "https://h/a"),
            ("h/a#a b", "https://h/a"),
            ("h/a#a..b", "https://h/a"),
            ("h/a#main:../x", "https://h/a"),
        ] {
            assert!(Wanted::read(rest, &attrs(remote)).is_err(), "{rest} {remote}");
        }
        let wanted = Wanted::read("h/a#main:x/y/", &attrs("git@h:a")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((wanted.reference.as_str(), wanted.directory.as_str()), ("main", "x/y"));
    }

    #[test]
    fn passwords_are_not_in_addresses() {
        for (remote, expected, password) in [
            ("https://u:p%40%2f%zz@h:8/a", "https://h:8/a", Some("u:p@/%zz")),
            ("https://token@h/a", "https://h/a", None),
            ("https://h/a@b:c", "https://h/a@b:c", None),
            ("git://u:p@h/a", "git://h/a", Some("u:p")),
            ("ssh://git@h/a", "ssh://git@h/a", None),
            ("git@h:a", "git@h:a", None),
        ] {
            let (found, secret) = apart(remote.to_owned());
            assert_eq!((found.as_str(), secret.as_deref()), (expected, password), "{remote}");
        }
    }
}
