//! The container's control group between the configuration and the `cgroup` crate: where it is, who makes it (this
//! process or systemd), and what is remembered of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cgroup::{Cgroup, Existing, FreezerState, Hierarchy, Made, Resources};
use launch::CgroupHandle;
use oci::Spec;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::limits;
use crate::plan::Fds;

/// The group of a container that is being made.
#[derive(Debug)]
pub(crate) struct Group {
    group: Option<Cgroup>,
    resources: Resources,
    made: Option<Made>,
}

/// A container's group as it is remembered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    /// Its directory by controller, the empty name for v2. Empty where the container has no group of its own.
    pub(crate) paths: BTreeMap<String, PathBuf>,
}

impl Group {
    /// Where the group is to be and what limits it is to have; nothing is made.
    ///
    /// # Errors
    /// A path that is none, and limits that no host has.
    pub(crate) fn resolve(_context: &Context, id: &str, spec: &Spec) -> Result<Self> {
        let resources = limits::resources(spec)?;
        let hierarchy = match Hierarchy::detect() {
            Err(cgroup::Error::NoHierarchy) if resources == Resources::default() => {
                return Ok(Self { group: None, resources, made: None });
            }
            other => other?,
        };
        let asked = spec.cgroups_path();
        let group = Cgroup::at(&hierarchy, if asked.is_empty() { id } else { asked })?;
        Ok(Self { group: Some(group), resources, made: None })
    }

    /// Makes the group and sets its limits.
    ///
    /// # Errors
    /// What the kernel says. A user without privileges, where the group was not asked for, goes without one and is
    /// told so.
    pub(crate) fn make(&mut self, context: &Context) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        match group.make(Existing::Empty) {
            Ok(made) => self.made = Some(made),
            Err(error) if !rustix::process::geteuid().is_root() => {
                context.log.warn(&format!("going on without a control group of its own, so without limits: {error}"));
                self.group = None;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(group.apply(&self.resources)?)
    }

    /// What is to be remembered.
    pub(crate) fn record(&self) -> GroupRecord {
        GroupRecord { paths: self.group.as_ref().map(Cgroup::paths).unwrap_or_default() }
    }

    /// What the child needs to join, and to show the group.
    pub(crate) fn handle(&self, fds: &mut Fds) -> Result<CgroupHandle> {
        match &self.group {
            Some(group) => handle(group, fds),
            None => Ok(CgroupHandle::default()),
        }
    }

    /// Whether the process has to be put into the group by others, after it was born.
    pub(crate) fn wants_process(&self) -> bool {
        false
    }

    /// Puts the process, which waits, into the group.
    pub(crate) fn take_process(&mut self, _pid: i32) -> Result<()> {
        Ok(())
    }

    /// Takes away what was made.
    pub(crate) fn undo(self) {
        if let Some(group) = &self.group
            && self.made.is_some()
        {
            let _ = group.kill();
        }
        if let Some(made) = self.made {
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

    fn need(&self) -> Result<Cgroup> {
        self.open()?.ok_or_else(|| {
            Error::State(
                "the container has no control group of its own; it was made by a user who may not make any".to_owned(),
            )
        })
    }

    /// The group, for limits and statistics.
    ///
    /// # Errors
    /// [`Error::State`] when the container has none.
    pub(crate) fn group(&self) -> Result<Cgroup> {
        self.need()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        matches!(self.open(), Ok(Some(group)) if matches!(group.freezer_state(), Ok(FreezerState::Frozen | FreezerState::Freezing)))
    }

    pub(crate) fn thaw(&self) {
        if let Ok(Some(group)) = self.open() {
            let _ = group.thaw();
        }
    }

    /// Every process of the container.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        Ok(self.need()?.pids()?)
    }

    pub(crate) fn signal_all(&self, signal: i32) -> Result<()> {
        Ok(self.need()?.signal_all(signal)?)
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

    /// Kills what is left in the group and removes it.
    pub(crate) fn destroy(&self) -> Result<()> {
        let Some(group) = self.open()? else { return Ok(()) };
        // Usually nothing is left, and removing is all there is to do.
        if group.try_remove().is_ok() {
            return Ok(());
        }
        group.kill()?;
        Ok(group.remove()?)
    }
}

fn handle(group: &Cgroup, fds: &mut Fds) -> Result<CgroupHandle> {
    let v1_mounts = group.v1_mounts().into_iter().map(|(dir, name)| match dir.into_os_string().into_string() {
        Ok(dir) => Ok((dir, name)),
        Err(dir) => Err(Error::Other(format!("the control group {} is not UTF-8", dir.display()))),
    });
    Ok(CgroupHandle {
        v2_dir: group.dir_fd()?.map(|fd| fds.push(fd)),
        v1_tasks: group.tasks_fds()?.into_iter().map(|fd| fds.push(fd)).collect(),
        v1_mounts: v1_mounts.collect::<Result<_>>()?,
    })
}
