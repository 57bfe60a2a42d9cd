//! Processes of a build: their root file system and mounts, what they print, and how they end.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use buildkit::wire::llb::{CacheSharingOpt, ExecOp, Mount, MountType, NetMode, SecurityMode};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::path::Root;
use tokio::sync::mpsc;
use types::Kind;

use super::caches::Cache;
use super::ssh::Agent;
use super::{Build, Input, failed, input};
use crate::error::{Error, Result};
use crate::graph::Vertex;
use crate::host::{Hold, MountSource, Mounted, Network, Run};
use crate::tree::{Change, Tree};

/// What a step has in hand while it runs.
#[derive(Default)]
struct Hand {
    mounts: Vec<Mounted>,
    /// Changes by the output they become.
    outputs: Vec<(usize, Tree, Arc<Change>)>,
    held: Held,
}

/// What has to stay until the process has ended.
#[derive(Default)]
struct Held {
    /// By their names.
    caches: HashMap<String, Cache>,
    secrets: Vec<Secret>,
    agents: Vec<Agent>,
    trees: Vec<Tree>,
    changes: Vec<Arc<Change>>,
}

/// A secret's file, which goes with the step.
struct Secret(std::path::PathBuf);

impl Drop for Secret {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, "the file of a secret stays in memory until the next start");
        }
    }
}

impl Build {
    /// Runs a process; gives its outputs.
    pub(super) async fn execute(
        self: &Arc<Self>,
        vertex: &Vertex,
        exec: &ExecOp,
        inputs: &[Input],
    ) -> Result<Vec<Option<Tree>>> {
        let meta = exec.meta.clone().unwrap_or_default();
        let network = match NetMode::try_from(exec.network) {
            Ok(NetMode::Unset) => Network::Default,
            Ok(NetMode::None) => Network::None,
            Ok(NetMode::Host) => {
                self.entitled("network.host")?;
                Network::Host
            }
            Err(_) => return Err(Error::new(Kind::Invalid, "a network mode that is not known here")),
        };
        let insecure = exec.security == SecurityMode::Insecure as i32;
        if insecure {
            self.entitled("security.insecure")?;
        }
        if !exec.cdi_devices.is_empty() {
            return Err(Error::new(Kind::Unsupported, "devices for steps are not supported yet"));
        }
        let mut hand = Hand::default();
        let root = exec.mounts.iter().find(|mount| mount.dest == "/");
        let root = root.ok_or_else(|| Error::new(Kind::Invalid, "a process without a root file system"))?;
        let base = if root.input < 0 { Tree::default() } else { input(inputs, root.input)?.clone() };
        let change = self.work.change(&base, self.shared.host.store())?;
        let mut env = meta.env.clone();
        let command = meta.args.join(" ");
        hand.held.caches = self.caches(&exec.mounts, inputs, &command).await?;
        for mount in exec.mounts.iter().filter(|mount| mount.dest != "/") {
            self.mount(mount, inputs, &mut hand).await?;
        }
        for secret in &exec.secretenv {
            match self.secret(&secret.id).await? {
                Some(value) => {
                    let value = String::from_utf8(value)
                        .map_err(|_| Error::new(Kind::Invalid, format!("secret {} is no text", secret.id)))?;
                    env.push(format!("{}={value}", secret.name));
                }
                None if secret.optional => {}
                None => return Err(Error::new(Kind::NotFound, format!("secret {}: not found", secret.id))),
            }
        }
        if let Some(proxy) = &meta.proxy_env {
            for (name, value) in [
                ("HTTP_PROXY", &proxy.http_proxy),
                ("HTTPS_PROXY", &proxy.https_proxy),
                ("FTP_PROXY", &proxy.ftp_proxy),
                ("NO_PROXY", &proxy.no_proxy),
                ("ALL_PROXY", &proxy.all_proxy),
            ] {
                if !value.is_empty() {
                    env.push(format!("{name}={value}"));
                    env.push(format!("{}={value}", name.to_lowercase()));
                }
            }
        }
        let targets = hand.mounts.iter().map(|mount| mount.target.clone()).collect::<Vec<_>>();
        let (rootfs, stubs) = {
            let (shared, base, change) = (Arc::clone(&self.shared), base.clone(), Arc::clone(&change));
            blocking(move || {
                let store = shared.host.store();
                let stubs = Stubs::before(&base, store, &targets)?;
                Ok((base.mount(store, &change, shared.host.places())?, stubs))
            })
            .await?
        };
        hand.held.trees.push(base.clone());
        hand.held.changes.push(Arc::clone(&change));
        let (output, mut printed) = mpsc::channel(64);
        let run = Run {
            rootfs,
            mounts: std::mem::take(&mut hand.mounts),
            args: meta.args.clone(),
            env,
            cwd: if meta.cwd.is_empty() { "/".to_owned() } else { meta.cwd.clone() },
            user: meta.user.clone(),
            hostname: meta.hostname.clone(),
            extra_hosts: meta.extra_hosts.iter().map(|host| (host.host.clone(), host.ip.clone())).collect(),
            network,
            insecure,
            ulimits: meta.ulimit.iter().map(|limit| (limit.name.clone(), limit.soft, limit.hard)).collect(),
            cgroup_parent: meta.cgroup_parent.clone(),
            input: None,
            output,
            cancel: self.cancel.child_token(),
            hold: Hold(Box::new(std::mem::take(&mut hand.held))),
        };
        // Ends the process also when whoever waits for this step gives up.
        let _end = run.cancel.clone().drop_guard();
        let telling = async {
            while let Some(output) = printed.recv().await {
                self.progress.log(&vertex.digest, output.stream, &output.data);
            }
        };
        let (ended, ()) = tokio::join!(self.shared.host.run(run), telling);
        let ended = ended.map_err(|error| failed::explained(error, vertex.op.platform.as_ref()))?;
        let allowed = if meta.valid_exit_codes.is_empty() { vec![0] } else { meta.valid_exit_codes.clone() };
        if !allowed.contains(&ended.code) {
            if !self.cancel.is_cancelled() {
                stubs.remove(&change.upper());
                self.left_behind(&vertex.digest, &meta, base.with(Arc::clone(&change))).await;
            }
            let why = if ended.out_of_memory { "cannot allocate memory: " } else { "" };
            return Err(Error::new(
                Kind::Internal,
                format!(
                    "process {:?} did not complete successfully: {why}exit code: {}",
                    meta.args.join(" "),
                    ended.code
                ),
            ));
        }
        stubs.remove(&change.upper());
        let mut outputs = Vec::new();
        if let Ok(output) = usize::try_from(root.output) {
            hand.outputs.push((output, base, change));
        }
        for (output, base, change) in hand.outputs.drain(..) {
            if outputs.len() <= output {
                outputs.resize(output + 1, None);
            }
            outputs[output] = Some(base.with(change));
        }
        Ok(outputs)
    }

    fn entitled(&self, what: &str) -> Result<()> {
        if self.entitlements.iter().any(|given| given == what) {
            return Ok(());
        }
        Err(Error::new(Kind::Forbidden, format!("{what} is not allowed: build again with --allow {what}")))
    }

    pub(super) async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>> {
        match &self.session {
            Some(session) => self.shared.sessions.get(session).await?.secret(id).await,
            None => Ok(None),
        }
    }

    /// The caches of a step: one for each name, however often it is mounted, and in an order that is the same for all steps,
    /// so that no two wait for each other.
    async fn caches(&self, mounts: &[Mount], inputs: &[Input], command: &str) -> Result<HashMap<String, Cache>> {
        let mut wanted = Vec::new();
        for mount in mounts.iter().filter(|mount| mount.mount_type == MountType::Cache as i32) {
            let options = mount.cache_opt.clone().unwrap_or_default();
            let sharing = CacheSharingOpt::try_from(options.sharing)
                .map_err(|_| Error::new(Kind::Invalid, "sharing of a cache that is not known here"))?;
            wanted.push((options.id, std::cmp::Reverse(sharing as i32), sharing, mount));
        }
        // Of several mounts the one that shares least decides.
        wanted.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        wanted.dedup_by(|a, b| a.0 == b.0);
        let mut caches = HashMap::with_capacity(wanted.len());
        for (id, _, sharing, mount) in wanted {
            let mut base = if mount.input < 0 { None } else { Some(input(inputs, mount.input)?.clone()) };
            let mut selector = mount.selector.clone();
            if !self.shared.caches.has(&id)
                && let Some(imports) = self.imports().await
                && let Some(tree) = imports.mount(&id, &self.ingest).await
            {
                (base, selector) = (Some(tree), String::new());
            }
            let shared = Arc::clone(&self.shared);
            let fill = move |path: &Path| fill(base.as_ref(), &selector, shared.host.store(), path);
            let shown = format!("cached mount {} from exec {command}", mount.dest);
            let cache = self.shared.caches.take(&id, sharing, &shown, fill).await?;
            caches.insert(id, cache);
        }
        Ok(caches)
    }

    async fn mount(&self, mount: &Mount, inputs: &[Input], hand: &mut Hand) -> Result<()> {
        let kind = MountType::try_from(mount.mount_type)
            .map_err(|_| Error::new(Kind::Invalid, "a type of mount that is not known here"))?;
        let store = self.shared.host.store();
        let mut read_only = mount.readonly;
        let source = match kind {
            MountType::Tmpfs => {
                let size = mount.tmpfs_opt.as_ref().map_or(0, |opt| opt.size);
                MountSource::Tmpfs(u64::try_from(size).ok().filter(|size| *size > 0))
            }
            MountType::Bind => {
                let base = if mount.input < 0 { Tree::default() } else { input(inputs, mount.input)?.clone() };
                hand.held.trees.push(base.clone());
                // What is written is an output, or lost.
                let tree = if mount.readonly {
                    let (shared, tree) = (Arc::clone(&self.shared), base.clone());
                    blocking(move || tree.mount_read_only(shared.host.store())).await?
                } else {
                    let change = self.work.change(&base, store)?;
                    let (shared, tree, into) = (Arc::clone(&self.shared), base.clone(), Arc::clone(&change));
                    let mounted = blocking(move || tree.mount(shared.host.store(), &into, None)).await?;
                    hand.held.changes.push(Arc::clone(&change));
                    if let Ok(output) = usize::try_from(mount.output) {
                        hand.outputs.push((output, base, change));
                    }
                    mounted
                };
                part(&Root::from_fd(tree), &mount.selector, self.shared.host.secrets())?
            }
            MountType::Cache => {
                let id = mount.cache_opt.as_ref().map_or("", |options| options.id.as_str());
                let cache = hand.held.caches.get(id);
                let cache = cache.ok_or_else(|| Error::new(Kind::Internal, "a cache was not prepared"))?;
                let root = Root::open(&cache.path).map_err(|e| Error::io("cannot open a cache", e))?;
                part(&root, "", self.shared.host.secrets())?
            }
            MountType::Secret => {
                let options = mount.secret_opt.clone().unwrap_or_default();
                match self.secret(&options.id).await? {
                    Some(value) => {
                        read_only = true;
                        let (secret, source) = self.secret_file(&value, (options.uid, options.gid), options.mode)?;
                        hand.held.secrets.push(secret);
                        source
                    }
                    None if options.optional => return Ok(()),
                    None => return Err(Error::new(Kind::NotFound, format!("secret {}: not found", options.id))),
                }
            }
            MountType::Ssh => {
                let options = mount.ssh_opt.clone().unwrap_or_default();
                let mode = if options.mode == 0 { 0o600 } else { options.mode };
                match self.agent(&options.id, (options.uid, options.gid), mode).await? {
                    Some(agent) => {
                        let secrets = self.shared.host.secrets();
                        let root = Root::open(secrets).map_err(|e| Error::io("cannot open a directory of ours", e))?;
                        let name = agent.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
                        hand.held.agents.push(agent);
                        part(&root, &name, secrets)?
                    }
                    None if options.optional => return Ok(()),
                    None => {
                        let id = if options.id.is_empty() { "default" } else { &options.id };
                        let text = format!("no SSH key \"{id}\" forwarded from the client: build with --ssh {id}");
                        return Err(Error::new(Kind::NotFound, text));
                    }
                }
            }
        };
        hand.mounts.push(Mounted { target: mount.dest.clone(), source, read_only });
        Ok(())
    }

    /// A file in memory that nobody but its owner reads.
    fn secret_file(&self, value: &[u8], (uid, gid): (u32, u32), mode: u32) -> Result<(Secret, MountSource)> {
        use std::io::Write;
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let fail = |e: std::io::Error| Error::io("cannot keep a secret in memory", e);
        let path = self.shared.host.secrets().join(crate::random::name()?);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(fail)?;
        let secret = Secret(path.clone());
        file.write_all(value).map_err(fail)?;
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid)).map_err(fail)?;
        let mode = if mode == 0 { 0o400 } else { mode & 0o777 };
        file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(fail)?;
        let root = Root::open(self.shared.host.secrets()).map_err(fail)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let source = part(&root, &name, self.shared.host.secrets())?;
        Ok((secret, source))
    }
}

/// A path of a tree as a mount of its own. `places` is a directory of ours for what has to be somewhere for a moment.
fn part(root: &Root, path: &str, places: &Path) -> Result<MountSource> {
    let fail = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::NotFound, format!("failed to mount: \"{path}\": not found")),
        _ => Error::io(format_args!("cannot mount \"{path}\""), e),
    };
    let at = Path::new("/").join(path.trim_start_matches('/'));
    let handle = root.open_at(&at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let stat = rustix::fs::fstat(&handle).map_err(|e| fail(e.into()))?;
    let file = rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory;
    let copy = || sys::mount::clone_tree(handle.as_fd(), Path::new(""), false);
    let fd = match copy() {
        // Before Linux 6.15 only what is attached somewhere can be copied. The whole of a mount is as good itself,
        Err(Errno::INVAL) if at == Path::new("/") => root.try_clone().map_err(fail)?.into(),
        // a part of it has to be somewhere for a moment, where nobody else looks.
        Err(Errno::INVAL) => {
            let place = Attached::new(root, places).map_err(fail)?;
            let fd = copy();
            drop(place);
            fd.map_err(|e| fail(e.into()))?
        }
        other => other.map_err(|e| fail(e.into()))?,
    };
    Ok(MountSource::Tree { fd, file })
}

/// A mount that is attached to a directory of its own for as long as this lives.
struct Attached(std::path::PathBuf);

impl Attached {
    fn new(mount: &Root, places: &Path) -> std::io::Result<Self> {
        let place = places.join(crate::random::name().map_err(std::io::Error::other)?);
        std::fs::create_dir(&place)?;
        let attached = Self(place);
        let target = rustix::fs::open(&attached.0, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let mount = std::os::fd::OwnedFd::from(mount.try_clone()?);
        sys::mount::attach(mount.as_fd(), target.as_fd())?;
        Ok(attached)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        use std::os::unix::ffi::OsStrExt;
        if let Ok(path) = std::ffi::CString::new(self.0.as_os_str().as_bytes()) {
            // Not attached after all: there is nothing to take off.
            let _ = sys::mount::unmount_detached(&path);
        }
        if let Err(error) = std::fs::remove_dir(&self.0) {
            tracing::warn!(%error, "a place for a mount stays until the next start");
        }
    }
}

/// What a new cache begins with.
fn fill(base: Option<&Tree>, selector: &str, store: &store::Store, path: &Path) -> Result<()> {
    let Some(base) = base else { return Ok(()) };
    let from = base.read(store)?;
    let from = from
        .sub(Path::new("/").join(selector.trim_start_matches('/')))
        .map_err(|e| Error::io("cannot open what a cache begins with", e))?;
    let to = Root::open(path).map_err(|e| Error::io("cannot open a cache", e))?;
    store::tree::duplicate(&from, &to)?;
    Ok(())
}

/// Places for mounts that were made for the step alone, and are no part of what it gives.
struct Stubs(Vec<std::path::PathBuf>);

impl Stubs {
    /// Which of the targets, and directories on their ways, are not there.
    fn before(base: &Tree, store: &store::Store, targets: &[String]) -> Result<Self> {
        if targets.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let root = base.read(store)?;
        let mut missing = Vec::new();
        for target in targets {
            let mut path = std::path::PathBuf::new();
            for name in Path::new(target).components() {
                let std::path::Component::Normal(name) = name else { continue };
                path.push(name);
                if root.lstat(Path::new("/").join(&path)).is_err() && !missing.contains(&path) {
                    missing.push(path.clone());
                }
            }
        }
        Ok(Self(missing))
    }

    /// Removes those that are still empty.
    fn remove(self, upper: &Path) {
        let Ok(root) = Root::open(upper) else { return };
        for path in self.0.iter().rev() {
            let Ok((dir, name)) = root.parent(Path::new("/").join(path)) else { continue };
            let Ok(stat) = dir.lstat(&name) else { continue };
            // A directory that is not empty stays, of itself; a file that somebody wrote to as well.
            let _ = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
                rustix::fs::FileType::Directory => dir.rmdir(&name),
                rustix::fs::FileType::RegularFile if stat.st_size == 0 => dir.unlink(&name),
                _ => Ok(()),
            };
        }
    }
}

/// Work that waits for the kernel or the disk, where it stops nobody.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::io("a step was interrupted", e))?
}
