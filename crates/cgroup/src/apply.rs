//! Setting limits: the entrance, and what both versions share. [`Cgroup::apply`] refuses what the host cannot
//! do; [`Cgroup::apply_lenient`] leaves out, with a word, what runc leaves out in silence.
//!
//! Invariant: limits that are not asked for are neither read nor written, except where one file holds two.

use std::path::Path;

use crate::error::libc_errno::{EBUSY, ENOENT};
use crate::file::{self, write_hint};
use crate::group::Cgroup;
use crate::resources::{HugepageLimit, RdmaLimit, Resources};
use crate::{Error, apply_v1, apply_v2, controllers, unified};

/// What to do about settings that the host has no control for.
pub(crate) struct Lack {
    /// `None` refuses; `Some` collects a sentence for each.
    warnings: Option<Vec<String>>,
}

impl Lack {
    /// The host has nothing for `control`, which an OCI runtime may leave out.
    pub(crate) fn of(&mut self, control: &'static str, reason: String) -> Result<(), Error> {
        match &mut self.warnings {
            Some(list) => {
                list.push(format!("{control} is not set: {reason}"));
                Ok(())
            }
            None => Err(Error::Unsupported { control, reason }),
        }
    }
}

impl Cgroup {
    /// Sets the limits given and leaves the others. Used for a new group and for a running one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the host lacks a control that is asked for, [`Error::Invalid`],
    /// [`Error::MemoryInUse`], [`Error::Write`]. Limits before the failing one stay set.
    pub fn apply(&self, resources: &Resources) -> Result<(), Error> {
        self.set(resources, &mut Lack { warnings: None })
    }

    /// The same, but leaves out what runc leaves out on such a host, and gives a sentence about each: kernel memory
    /// where the kernel has dropped it, and on v2 swappiness, the switch of the out-of-memory killer, real-time
    /// CPU, leaf weights, network class and priorities.
    ///
    /// # Errors
    /// As [`Cgroup::apply`] for everything else.
    pub fn apply_lenient(&self, resources: &Resources) -> Result<Vec<String>, Error> {
        let mut lack = Lack { warnings: Some(Vec::new()) };
        self.set(resources, &mut lack)?;
        Ok(lack.warnings.unwrap_or_default())
    }

    /// Refuses limits of memory that are not above what is in use, where
    /// [`Resources::memory_check_before_update`] asks for that. [`Cgroup::apply`] does so by itself.
    pub(crate) fn check_usage(&self, r: &Resources) -> Result<(), Error> {
        match (self.unified_dir(), self.v1_dir("memory")) {
            (Some(dir), _) => check_usage(r, &dir.join("memory.current"), &dir.join("memory.current")),
            (None, Some(dir)) => {
                check_usage(r, &dir.join("memory.usage_in_bytes"), &dir.join("memory.memsw.usage_in_bytes"))
            }
            (None, None) => Ok(()),
        }
    }

    fn set(&self, resources: &Resources, lack: &mut Lack) -> Result<(), Error> {
        unified::check(self, &resources.unified)?;
        self.check_usage(resources)?;
        match self.unified_dir() {
            Some(dir) => apply_v2::apply(dir, resources, lack)?,
            None => apply_v1::apply(self, resources, lack)?,
        }
        self.hugepages(&resources.hugepages)?;
        self.rdma(&resources.rdma)?;
        unified::apply(self, &resources.unified)
    }

    /// Directory that carries `controller`, on whichever version, with the controller switched on.
    pub(crate) fn carrier(&self, controller: &str, control: &'static str) -> Result<Carrier<'_>, Error> {
        if let Some(dir) = self.v1_dir(controller) {
            return Ok(Carrier { dir, v2: false });
        }
        if let Some(spot) = self.v2.as_ref().filter(|spot| controllers::need(spot, controller)) {
            return Ok(Carrier { dir: &spot.dir, v2: true });
        }
        Err(Error::Unsupported {
            control,
            reason: format!(
                "the controller '{controller}' is on no cgroup hierarchy of this host that the group is in"
            ),
        })
    }

    /// Reservations where the kernel counts them (since 5.7), and use, as runc does: the first never surprises a
    /// process with SIGBUS, the second holds for memory taken without a reservation.
    fn hugepages(&self, limits: &[HugepageLimit]) -> Result<(), Error> {
        if limits.is_empty() {
            return Ok(());
        }
        let carrier = self.carrier("hugetlb", "huge pages")?;
        let suffix = if carrier.v2 { "max" } else { "limit_in_bytes" };
        for limit in limits {
            let size = limit.page_size.as_str();
            check_page_size(size)?;
            let value = limit.limit.to_string();
            write_hint(carrier.dir, &format!("hugetlb.{size}.{suffix}"), &value, "").map_err(|e| match e.errno() {
                Some(ENOENT) => Error::Invalid {
                    control: "the size of huge pages",
                    value: size.to_owned(),
                    reason: "this host has no huge pages of that size (see /sys/kernel/mm/hugepages)",
                },
                _ => e,
            })?;
            match write_hint(carrier.dir, &format!("hugetlb.{size}.rsvd.{suffix}"), &value, "") {
                Err(e) if e.errno() == Some(ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// `rdma.max` is the same on both versions.
    fn rdma(&self, limits: &[RdmaLimit]) -> Result<(), Error> {
        for limit in limits {
            let invalid = |reason| Error::Invalid { control: "an RDMA limit", value: limit.device.clone(), reason };
            if limit.device.is_empty() || limit.device.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control())
            {
                return Err(invalid("it is no name of a device"));
            }
            let mut line = limit.device.clone();
            for (key, value) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
                if let Some(value) = value {
                    line.push_str(&format!(" {key}={value}"));
                }
            }
            if line.len() == limit.device.len() {
                return Err(invalid("it limits neither handles nor objects"));
            }
            let carrier = self.carrier("rdma", "RDMA")?;
            write_hint(carrier.dir, "rdma.max", &line, "; the device must be one of /sys/class/infiniband")?;
        }
        Ok(())
    }
}

/// A group's directory and its version.
pub(crate) struct Carrier<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) v2: bool,
}

/// `64KB`, `2MB`, `1GB`.
fn check_page_size(size: &str) -> Result<(), Error> {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    match digits {
        Some(n) if !n.is_empty() && n.len() < 10 && n.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err(Error::Invalid {
            control: "the size of huge pages",
            value: size.chars().take(40).collect(),
            reason: "it is a number and KB, MB or GB",
        }),
    }
}

/// EBUSY from a memory limit means usage that cannot be reclaimed: say how much.
pub(crate) fn in_use(error: Error, limit: i64, dir: &Path, usage: &str) -> Error {
    match error.errno() {
        Some(EBUSY) => match file::read_number(&dir.join(usage)) {
            Ok(usage) => Error::MemoryInUse { limit, usage },
            Err(_) => error,
        },
        _ => error,
    }
}

/// Refuses limits that are not above what is in use, where that was asked for. A group whose use cannot be read
/// is not refused: it may hold nothing yet.
fn check_usage(r: &Resources, memory: &Path, both: &Path) -> Result<(), Error> {
    if !r.memory_check_before_update {
        return Ok(());
    }
    for (limit, path) in [(r.memory_swap, both), (r.memory, memory)] {
        if let Some(limit) = limit.filter(|l| *l > 0)
            && let Ok(usage) = file::read_number(path)
            && usage >= limit.unsigned_abs()
        {
            return Err(Error::MemoryInUse { limit, usage });
        }
    }
    Ok(())
}
