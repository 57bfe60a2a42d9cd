//! The container's control group between the configuration and the `cgroup` crate: where it is, who makes it (this
//! process or systemd), and what is remembered of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cgroup::systemd::{Property, Systemd, Unit, property_of_annotation};
use cgroup::{Cgroup, Existing, FreezerState, Hierarchy, Made, Resources};
use launch::CgroupHandle;
use oci::{NamespaceKind, Spec};
use serde::{Deserialize, Serialize};

use crate::caller;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::limits;
use crate::plan::Fds;

/// The group of a container that is being made.
pub(crate) struct Group {
    /// None where nobody lets us have one.
    group: Option<Cgroup>,
    v2_only: bool,
    resources: Resources,
    made: Option<Made>,
    scope: Option<Scope>,
}

/// A group that systemd makes.
struct Scope {
    systemd: Systemd,
    unit: Unit,
    more: Vec<Property>,
    started: bool,
}

/// A container's group as it is remembered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GroupRecord {
    /// Its directory by controller, the empty name for v2. Empty where the container has no group of its own.
    paths: BTreeMap<String, PathBuf>,
    unit: Option<UnitRecord>,
    /// It was made for this container. Otherwise it may be anybody's by now.
    claimed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct UnitRecord {
    slice: String,
    name: String,
    user: bool,
}

impl Group {
    /// Where the group is to be and what limits it is to have; nothing is made.
    ///
    /// # Errors
    /// A path that is none, limits that no host has, a systemd that cannot be reached.
    pub(crate) fn resolve(context: &Context, id: &str, spec: &Spec) -> Result<Self> {
        let resources = limits::resources(spec)?;
        let hierarchy = Hierarchy::detect()?;
        let asked = spec.cgroups_path();
        let unprivileged = caller::is_rootless();
        let mut resolved =
            Self { group: None, v2_only: hierarchy.mode() == cgroup::Mode::V2, resources, made: None, scope: None };
        if context.systemd {
            let mut systemd = if unprivileged { Systemd::user()? } else { Systemd::system()? };
            let unit = Unit::parse(asked, id, unprivileged)?;
            let group = unit.group(&hierarchy, &systemd.control_group()?)?;
            let mut more = Vec::new();
            for (name, text) in &spec.annotations {
                if let Some(name) = name.strip_prefix(cgroup::systemd::ANNOTATION_PREFIX) {
                    more.push(property_of_annotation(name, text)?);
                }
            }
            resolved.group = Some(group);
            resolved.scope = Some(Scope { systemd, unit, more, started: false });
            return Ok(resolved);
        }
        let group = Cgroup::at(&hierarchy, if asked.is_empty() { id } else { asked })?;
        resolved.group = Some(if unprivileged && asked.is_empty() {
            let delegation = hierarchy.delegation();
            for refused in delegation.iter().filter_map(|part| part.refusal.as_ref()).take(1) {
                context.log.warn(&format!("going on without limits where they are not ours to set: {refused}"));
            }
            group.keep_delegated(&delegation)
        } else {
            group
        });
        if resolved.group.as_ref().is_some_and(Cgroup::is_nowhere) {
            resolved.group = None;
        }
        Ok(resolved)
    }

    /// Makes the group and sets its limits, unless systemd is to do so when there is a process.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn make(&mut self, context: &Context) -> Result<()> {
        let (Some(group), None) = (&self.group, &self.scope) else { return Ok(()) };
        self.made = Some(group.make(Existing::Empty)?);
        for warning in group.apply_lenient(&self.resources)? {
            context.log.warn(&warning);
        }
        Ok(())
    }

    /// What is to be remembered.
    pub(crate) fn record(&self) -> GroupRecord {
        GroupRecord {
            paths: self.group.as_ref().map(Cgroup::paths).unwrap_or_default(),
            unit: self.scope.as_ref().map(|scope| UnitRecord {
                slice: scope.unit.slice.clone(),
                name: scope.unit.name.clone(),
                user: scope.unit.user,
            }),
            claimed: self.made.is_some() || self.scope.as_ref().is_some_and(|scope| scope.started),
        }
    }

    /// What the child needs to join the group, and to show it. A group of systemd's is there only after the child is.
    ///
    /// # Errors
    /// When its files cannot be opened.
    pub(crate) fn handle(&self, fds: &mut Fds) -> Result<CgroupHandle> {
        match (&self.group, &self.scope) {
            (None, _) => Ok(CgroupHandle { v2_only: self.v2_only, ..CgroupHandle::default() }),
            (Some(group), None) => handle(group, fds),
            (Some(group), Some(_)) => {
                Ok(CgroupHandle { v1_mounts: mounts(group)?, v2_only: self.v2_only, ..CgroupHandle::default() })
            }
        }
    }

    /// Whether the process has to be put into the group by others, after it was born.
    pub(crate) fn wants_process(&self) -> bool {
        self.scope.is_some()
    }

    /// Puts the process, which waits, into the group.
    ///
    /// # Errors
    /// What systemd says.
    pub(crate) fn take_process(&mut self, pid: i32, context: &Context) -> Result<()> {
        let (Some(group), Some(scope)) = (&self.group, &mut self.scope) else { return Ok(()) };
        let pids = [u32::try_from(pid).unwrap_or(0)];
        let warnings = scope.systemd.start(&scope.unit, group, &pids, &self.resources, &scope.more)?;
        scope.started = true;
        for warning in warnings {
            context.log.warn(&warning);
        }
        Ok(())
    }

    /// Hands the group to the user who is to make groups below it (runtime-spec, "Cgroup ownership"). On v1 nobody but
    /// root may, since there a group's owner could lift its limits.
    ///
    /// # Errors
    /// What chown(2) says.
    pub(crate) fn give_to(&self, uid: u32) -> Result<()> {
        match &self.group {
            Some(group) if self.v2_only => Ok(group.give_to(uid)?),
            _ => Ok(()),
        }
    }

    /// Takes away what was made.
    pub(crate) fn undo(self) {
        if let Some(mut scope) = self.scope
            && scope.started
        {
            let _ = scope.systemd.stop(&scope.unit);
        }
        if let Some(made) = self.made {
            if let Some(group) = &self.group {
                let _ = group.kill();
            }
            made.undo();
        }
    }
}

impl GroupRecord {
    fn open(&self) -> Result<Option<Cgroup>> {
        if self.paths.is_empty() {
            return Ok(None);
        }
        Ok(Some(Cgroup::from_paths(&Hierarchy::detect()?, &self.paths)?))
    }

    /// The group, for limits and statistics.
    ///
    /// # Errors
    /// [`Error::State`] when the container has none.
    pub(crate) fn group(&self) -> Result<Cgroup> {
        self.open()?.ok_or_else(|| {
            Error::State(
                "the container has no control group of its own: it was made by a user who may not make any".to_owned(),
            )
        })
    }

    pub(crate) fn is_frozen(&self) -> bool {
        let state = self.open().map(|group| group.and_then(|group| group.freezer_state().ok()));
        matches!(state, Ok(Some(FreezerState::Frozen | FreezerState::Freezing)))
    }

    /// The v1 groups as a container sees them: directory and name.
    pub(crate) fn mounts(&self) -> Result<Vec<(String, String)>> {
        self.open()?.as_ref().map_or_else(|| Ok(Vec::new()), mounts)
    }

    /// The directory of the group that can be frozen.
    pub(crate) fn freezer(&self) -> Option<&Path> {
        self.paths.get("freezer").or_else(|| self.paths.get("")).map(PathBuf::as_path)
    }

    pub(crate) fn thaw(&self) {
        if let Ok(Some(group)) = self.open() {
            let _ = group.thaw();
        }
    }

    /// Every process of the container.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        Ok(self.group()?.pids()?)
    }

    pub(crate) fn signal_all(&self, signal: i32) -> Result<()> {
        Ok(self.group()?.signal_all(signal)?)
    }

    /// Changes the limits of a running container; gives sentences about what the host has no control for.
    pub(crate) fn change(&self, resources: &Resources) -> Result<Vec<String>> {
        let group = self.group()?;
        let Some(unit) = self.unit() else { return Ok(group.apply_lenient(resources)?) };
        let mut systemd = if unit.user { Systemd::user()? } else { Systemd::system()? };
        Ok(systemd.set(&unit, &group, resources)?)
    }

    fn unit(&self) -> Option<Unit> {
        let unit = self.unit.as_ref()?;
        Some(Unit { slice: unit.slice.clone(), name: unit.name.clone(), container: String::new(), user: unit.user })
    }

    /// What a further process needs to join the group, or the one at `below` in it.
    pub(crate) fn handle(&self, below: Option<&str>, fds: &mut Fds) -> Result<CgroupHandle> {
        let Some(group) = self.open()? else { return Ok(CgroupHandle::default()) };
        let group = match below {
            Some(path) => group.below(path)?,
            None => group,
        };
        let mut handle = handle(&group, fds)?;
        handle.v1_mounts.clear();
        Ok(handle)
    }

    /// The same for the group that the process `pid` is in.
    pub(crate) fn handle_of(&self, pid: i32, fds: &mut Fds) -> Result<CgroupHandle> {
        let mut handle = handle(&Cgroup::of_process(&Hierarchy::detect()?, pid)?, fds)?;
        handle.v1_mounts.clear();
        Ok(handle)
    }

    /// Kills what is left in the group and removes it. One that the container never got is left to whoever has it.
    pub(crate) fn destroy(&self) -> Result<()> {
        if !self.claimed {
            if let (None, Some(group)) = (&self.unit, self.open()?) {
                // Made, and its maker ended before that was written down: then nothing is in it.
                let _ = group.try_remove();
            }
            return Ok(());
        }
        if let Some(unit) = self.unit() {
            let mut systemd = if unit.user { Systemd::user()? } else { Systemd::system()? };
            systemd.stop(&unit)?;
            if unit.is_slice() {
                return Ok(());
            }
        }
        let Some(group) = self.open()? else { return Ok(()) };
        // Usually nothing is left, and removing is all there is to do.
        if group.try_remove().is_ok() {
            return Ok(());
        }
        group.kill()?;
        Ok(group.remove()?)
    }
}

/// The user, as the host numbers it, whom the container's group is to belong to: that of its process, where the
/// container has a control group namespace of its own and may write to its groups.
pub(crate) fn owner(spec: &Spec) -> Option<u32> {
    spec.namespace(NamespaceKind::Cgroup).filter(|namespace| namespace.path.is_none())?;
    let mounted = spec.mounts.iter().rfind(|mount| mount.destination.trim_end_matches('/') == "/sys/fs/cgroup")?;
    if !matches!(mounted.kind.as_str(), "cgroup" | "cgroup2") || mounted.options.iter().any(|word| word == "ro") {
        return None;
    }
    let uid = spec.process.as_ref()?.user.uid;
    match spec.namespace(NamespaceKind::User) {
        None => Some(uid),
        Some(_) => spec.linux.as_ref()?.uid_mappings.iter().find_map(|map| {
            let offset = uid.checked_sub(map.container_id).filter(|offset| *offset < map.size)?;
            map.host_id.checked_add(offset)
        }),
    }
}

fn handle(group: &Cgroup, fds: &mut Fds) -> Result<CgroupHandle> {
    Ok(CgroupHandle {
        v2_only: false,
        v2_dir: group.dir_fd()?.map(|fd| fds.push(fd)),
        v1_tasks: group.tasks_fds()?.into_iter().map(|fd| fds.push(fd)).collect(),
        v1_mounts: mounts(group)?,
    })
}

fn mounts(group: &Cgroup) -> Result<Vec<(String, String)>> {
    let text = |(dir, name): (PathBuf, String)| match dir.into_os_string().into_string() {
        Ok(dir) => Ok((dir, name)),
        Err(dir) => Err(Error::Other(format!("the control group {} is not UTF-8", dir.display()))),
    };
    group.v1_mounts().into_iter().map(text).collect()
}
