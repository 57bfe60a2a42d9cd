//! The mounts of a command: its root, what RUN asks for with `--mount`, and what the builder adds. They are in the order of
//! their targets, so that what lies within another comes behind it.

use buildkit::wire::llb;
use dockerfile::{Mount, MountKind, Sharing, Step};

use super::error::{ConvertError, Problem};
use super::graph::{About, Inputs, Output};
use super::path;
use super::stage::{Converter, Stage};

/// The mounts of a command while they are collected.
pub(super) struct Mounts {
    mounts: Vec<llb::Mount>,
    /// Secrets and sockets come behind everything else.
    files: Vec<llb::Mount>,
    secretenv: Vec<llb::SecretEnv>,
    sockets: usize,
    /// The first socket of an agent.
    pub(super) agent: Option<String>,
}

impl Mounts {
    pub(super) fn new(root: llb::Mount) -> Self {
        Self { mounts: vec![root], files: Vec::new(), secretenv: Vec::new(), sockets: 0, agent: None }
    }

    /// Files that the command may read.
    pub(super) fn bind(&mut self, input: i64, dest: String) {
        self.mounts.push(llb::Mount { input, dest, output: -1, readonly: true, ..llb::Mount::default() });
    }

    /// Memory.
    pub(super) fn tmpfs(&mut self, dest: String, size: i64) {
        self.mounts.push(llb::Mount {
            input: -1,
            dest,
            output: -1,
            mount_type: llb::MountType::Tmpfs.into(),
            tmpfs_opt: Some(llb::TmpfsOpt { size }),
            ..llb::Mount::default()
        });
    }

    pub(super) fn finish(mut self) -> (Vec<llb::Mount>, Vec<llb::SecretEnv>) {
        self.mounts.sort_by(|a, b| a.dest.cmp(&b.dest));
        self.mounts.append(&mut self.files);
        (self.mounts, self.secretenv)
    }
}

/// A mount that is a file, not a part of the graph.
fn file(dest: String, kind: llb::MountType) -> llb::Mount {
    llb::Mount { input: -1, dest, output: -1, mount_type: kind.into(), ..llb::Mount::default() }
}

impl Converter<'_> {
    pub(super) fn mounts(
        &mut self,
        stage: &Stage,
        step: &Step,
        inputs: &mut Inputs,
        mounts: &mut Mounts,
    ) -> Result<(), ConvertError> {
        for mount in &step.mounts {
            match &mount.kind {
                MountKind::Secret { .. } => secret(stage, mount, mounts),
                MountKind::Ssh { .. } => ssh(stage, mount, mounts),
                MountKind::Tmpfs { size } => {
                    let size = size.map_or(0, |size| i64::try_from(size).unwrap_or(i64::MAX));
                    mounts.tmpfs(target(stage, mount)?, size);
                }
                MountKind::Bind { from, source } => {
                    let dest = target(stage, mount)?;
                    let input = match from {
                        Some(from) => self.from(stage.index, from, false)?,
                        None => self.main_context()?,
                    };
                    mounts.mounts.push(llb::Mount {
                        input: inputs.add_or_empty(input),
                        selector: selector(source),
                        dest,
                        output: -1,
                        readonly: mount.read_only,
                        ..llb::Mount::default()
                    });
                }
                MountKind::Cache { .. } => {
                    let mount = self.cache(stage, mount, inputs)?;
                    mounts.mounts.push(mount);
                }
            }
        }
        Ok(())
    }

    fn cache(&mut self, stage: &Stage, mount: &Mount, inputs: &mut Inputs) -> Result<llb::Mount, ConvertError> {
        let dest = target(stage, mount)?;
        let MountKind::Cache { id, sharing, from, source, mode, uid, gid } = &mount.kind else {
            return Ok(llb::Mount::default());
        };
        let mut input = match from {
            Some(from) => self.from(stage.index, from, false)?,
            None => None,
        };
        let mut selector = selector(source);
        if selector.is_empty() && (mode.is_some() || uid.is_some() || gid.is_some()) {
            let mode = mode.map_or(0o755, |mode| i32::try_from(mode).unwrap_or(0o755));
            input = Some(self.cache_root(input, mode, uid.unwrap_or(0), gid.unwrap_or(0))?);
            "/cache".clone_into(&mut selector);
        }
        let sharing = match sharing {
            Sharing::Shared => llb::CacheSharingOpt::Shared,
            Sharing::Private => llb::CacheSharingOpt::Private,
            Sharing::Locked => llb::CacheSharingOpt::Locked,
        };
        let id = if id.is_empty() { mount_path(&mount.target) } else { id.clone() };
        let options = self.input.options;
        let namespace = self.input.plan.options().build_args.get("BUILDKIT_CACHE_MOUNT_NS");
        let namespace = namespace.filter(|_| options.cache_namespace.is_empty()).unwrap_or(&options.cache_namespace);
        Ok(llb::Mount {
            input: inputs.add_or_empty(input),
            selector,
            dest,
            output: -1,
            readonly: mount.read_only,
            mount_type: llb::MountType::Cache.into(),
            cache_opt: Some(llb::CacheOpt { id: format!("{namespace}/{id}"), sharing: sharing.into() }),
            ..llb::Mount::default()
        })
    }

    /// A directory with the permissions that a new cache begins with.
    fn cache_root(&mut self, on: Option<Output>, mode: i32, uid: u32, gid: u32) -> Result<Output, ConvertError> {
        let by_id = |id| Some(llb::UserOpt { user: Some(llb::UserOptUser::ById(id)) });
        let directory = llb::FileActionMkDir {
            path: "/cache".to_owned(),
            mode,
            make_parents: false,
            owner: Some(llb::ChownOpt { user: by_id(uid), group: by_id(gid) }),
            timestamp: -1,
        };
        let mut inputs = Inputs::default();
        let action = llb::FileAction {
            input: inputs.add_or_empty(on),
            secondary_input: -1,
            output: 0,
            action: Some(llb::FileActionAction::Mkdir(directory)),
        };
        let about = About { caps: vec!["file.base"], ..About::internal("settings cache mount permissions") };
        self.graph.add(inputs, llb::OpOp::File(llb::FileOp { actions: vec![action] }), None, about)
    }
}

/// The path within what is mounted; empty for all of it.
fn selector(source: &str) -> String {
    Some(path::clean(source)).filter(|source| source != "/").unwrap_or_default()
}

/// A target as a name: without what changes nothing, but relative when it was.
fn mount_path(target: &str) -> String {
    let clean = path::clean(target);
    if target.starts_with('/') { clean } else { clean.trim_start_matches('/').to_owned() }
}

fn target(stage: &Stage, mount: &Mount) -> Result<String, ConvertError> {
    let target = path::resolve(stage.directory(), &mount.target);
    if target == "/" { Err(Problem::MountTarget(target).into()) } else { Ok(target) }
}

fn secret(stage: &Stage, mount: &Mount, mounts: &mut Mounts) {
    let MountKind::Secret { id, env, required, mode, uid, gid } = &mount.kind else { return };
    if let Some(name) = env {
        mounts.secretenv.push(llb::SecretEnv { id: id.clone(), name: name.clone(), optional: !required });
        if mount.target.is_empty() {
            return;
        }
    }
    let dest = if mount.target.is_empty() {
        format!("/run/secrets/{}", path::base(id).unwrap_or(id))
    } else {
        path::resolve(stage.directory(), &mount.target)
    };
    let secret = llb::SecretOpt {
        id: id.clone(),
        uid: uid.unwrap_or(0),
        gid: gid.unwrap_or(0),
        mode: mode.unwrap_or(0o400),
        optional: !required,
    };
    mounts.files.push(llb::Mount { secret_opt: Some(secret), ..file(dest, llb::MountType::Secret) });
}

fn ssh(stage: &Stage, mount: &Mount, mounts: &mut Mounts) {
    let MountKind::Ssh { id, required, mode, uid, gid } = &mount.kind else { return };
    let dest = if mount.target.is_empty() {
        format!("/run/buildkit/ssh_agent.{}", mounts.sockets)
    } else {
        path::resolve(stage.directory(), &mount.target)
    };
    mounts.sockets += 1;
    mounts.agent.get_or_insert_with(|| dest.clone());
    let ssh = llb::SshOpt {
        id: id.clone(),
        uid: uid.unwrap_or(0),
        gid: gid.unwrap_or(0),
        mode: mode.unwrap_or(0o600),
        optional: !required,
    };
    mounts.files.push(llb::Mount { ssh_opt: Some(ssh), ..file(dest, llb::MountType::Ssh) });
}
