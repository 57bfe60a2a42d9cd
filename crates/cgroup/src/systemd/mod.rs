//! Groups that systemd makes: a container as a transient scope of the system's or the user's manager, over D-Bus
//! (org.freedesktop.systemd1(5), `--systemd-cgroup` of OCI runtimes).
//!
//! systemd moves the processes and keeps the limits it has properties for; the rest, and the hierarchies of v1
//! that it does not use, are done here in the control group file system afterwards.
//!
//! Invariant: a unit whose start fails half-way is stopped again. Called by an OCI runtime; the engine makes its
//! groups itself.

mod annotation;
mod error;
mod properties;
mod unit;

use std::path::Path;
use std::time::{Duration, Instant};

use dbus::{Bus, Call, Message};
use properties::Target;

pub use annotation::{ANNOTATION_PREFIX, property_of_annotation};
pub use error::Error;
pub use properties::Property;
pub use unit::{Unit, expand_slice};

pub use dbus::{Error as BusError, Value};

use crate::{Cgroup, Error as CgroupError, Existing, Resources};

/// How long systemd may take for one answer or job.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where systemd itself listens for root, without a bus between.
const PRIVATE: &str = "unix:path=/run/systemd/private";
const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const JOBS: &str = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// A connection to a manager of units.
pub struct Systemd {
    bus: Bus,
    user: bool,
    version: Option<u32>,
}

/// Whether systemd runs this host (sd_booted(3)).
pub fn is_running() -> bool {
    std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|m| m.is_dir())
}

impl Systemd {
    /// The system's manager: over the system bus, or for root directly where there is no bus.
    ///
    /// # Errors
    /// [`Error::Bus`]
    pub fn system() -> Result<Systemd, Error> {
        match Systemd::connect(&dbus::system_address(), false) {
            Err(Error::Bus { source: BusError::Connect { .. }, .. }) if rustix::process::geteuid().is_root() => {
                let bus = Bus::connect(PRIVATE, None);
                Ok(Systemd { bus: bus.map_err(failed("connect to systemd"))?, user: false, version: None })
            }
            other => other,
        }
    }

    /// The manager of the user who runs this.
    ///
    /// # Errors
    /// [`Error::NoUserBus`], [`Error::Bus`]
    pub fn user() -> Result<Systemd, Error> {
        Systemd::connect(&dbus::session_address().ok_or(Error::NoUserBus)?, true)
    }

    /// The manager on the bus at `address`, a list as in `DBUS_SESSION_BUS_ADDRESS`.
    ///
    /// # Errors
    /// [`Error::Bus`]
    pub fn connect(address: &str, user: bool) -> Result<Systemd, Error> {
        let bus = Bus::connect(address, Some(JOBS)).map_err(failed("connect to systemd"))?;
        Ok(Systemd { bus, user, version: None })
    }

    /// Whether it is a user's manager.
    pub fn is_user(&self) -> bool {
        self.user
    }

    fn call(&mut self, path: &str, interface: &str, member: &str, body: &[Value]) -> Result<Vec<Value>, BusError> {
        let destination = self.bus.has_bus().then_some(NAME);
        let call = Call { destination, path, interface, member, body, no_reply: false };
        self.bus.call(&call, Instant::now() + PATIENCE)
    }

    fn manager(&mut self, member: &str, body: &[Value]) -> Result<Vec<Value>, BusError> {
        self.call(PATH, MANAGER, member, body)
    }

    fn property(&mut self, name: &str) -> Result<String, Error> {
        let body = [Value::Str(MANAGER.to_owned()), Value::Str(name.to_owned())];
        let answer = self
            .call(PATH, "org.freedesktop.DBus.Properties", "Get", &body)
            .map_err(failed(format!("read systemd's property {name}")))?;
        match answer.as_slice() {
            [Value::Variant(value)] => value.text().map(str::to_owned),
            _ => None,
        }
        .ok_or_else(|| failed(format!("read systemd's property {name}"))(BusError::Malformed))
    }

    /// systemd's version, the number of `systemctl --version`: 252.
    ///
    /// # Errors
    /// [`Error::Bus`]
    pub fn version(&mut self) -> Result<u32, Error> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        // "252.22-1~deb12u1", "v245"
        let text = self.property("Version")?;
        let digits = text.trim_start_matches(['"', 'v']);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let version = digits[..end].parse().map_err(|_| failed("read systemd's version")(BusError::Malformed))?;
        self.version = Some(version);
        Ok(version)
    }

    /// The manager's own control group, which its units are below: empty for the system's, which needs no question,
    /// `/user.slice/user-1000.slice/user@1000.service` for a user's.
    ///
    /// # Errors
    /// [`Error::Bus`]
    pub fn control_group(&mut self) -> Result<String, Error> {
        if self.user { self.property("ControlGroup") } else { Ok(String::new()) }
    }

    /// Starts `unit` with the running processes `pids` in it, sets the limits, and makes and fills the parts of
    /// `group`, the unit's own (see [`Unit::group`]), that systemd does not use. `more` are properties of the caller's, for
    /// example of annotations. Gives sentences about limits left out, as [`Cgroup::apply_lenient`].
    ///
    /// # Errors
    /// [`CgroupError::Busy`] and [`CgroupError::Frozen`] if the group is in use already, [`Error::Bus`] and
    /// [`Error::Job`] if systemd refuses or fails; the unit is not left behind.
    pub fn start(
        &mut self,
        unit: &Unit,
        group: &Cgroup,
        pids: &[u32],
        resources: &Resources,
        more: &[Property],
    ) -> Result<Vec<String>, Error> {
        if unit.user && !group.unified {
            return Err(Error::Cgroup(CgroupError::Unsupported {
                control: "anything through a user's systemd",
                reason: "that needs cgroup v2; use the cgroupfs driver".to_owned(),
            }));
        }
        if !unit.is_slice() {
            group.refuse_used()?;
        }
        let properties = self.start_properties(unit, group, pids, resources, more)?;
        let body = [
            Value::Str(unit.name.clone()),
            Value::Str("replace".to_owned()),
            properties,
            Value::Array("(sa(sv))".to_owned(), Vec::new()),
        ];
        let action = format!("start the unit {}", unit.name);
        let mut answer = self.manager("StartTransientUnit", &body);
        if answer.as_ref().is_err_and(|e| e.is("org.freedesktop.systemd1.UnitExists")) {
            if pids.is_empty() {
                return Ok(Vec::new());
            }
            // Perhaps a failed one is left: forgotten, its name is free.
            let _ = self.manager("ResetFailedUnit", &body[..1]);
            answer = self.manager("StartTransientUnit", &body);
        }
        let job = answer.map_err(failed(&action))?;
        let done = self.wait(&job, &action).and_then(|()| self.complete(group, pids, resources));
        if done.is_err() {
            let _ = self.stop(unit);
            if !unit.is_slice() {
                let _ = group.remove();
            }
        }
        done
    }

    /// What systemd leaves to be done.
    fn complete(&self, group: &Cgroup, pids: &[u32], resources: &Resources) -> Result<Vec<String>, Error> {
        let _ = group.make(Existing::Join)?;
        if !group.unified {
            for pid in pids {
                group.add_process(i32::try_from(*pid).unwrap_or(i32::MAX))?;
            }
        }
        Ok(group.apply_lenient(resources)?)
    }

    fn start_properties(
        &mut self,
        unit: &Unit,
        group: &Cgroup,
        pids: &[u32],
        resources: &Resources,
        more: &[Property],
    ) -> Result<Value, Error> {
        let mut list: Vec<Property> = Vec::new();
        let mut add = |name: &str, value: Value| list.push((name.to_owned(), value));
        add("Description", Value::Str(format!("OCI container {}", unit.container)));
        if unit.is_slice() {
            // The parent of a slice is in its name; it has to be there.
            add("Wants", Value::strings([unit.slice.as_str()]));
        } else {
            add("Slice", Value::Str(unit.slice.clone()));
            add("Delegate", Value::Bool(true));
        }
        if !pids.is_empty() {
            add("PIDs", Value::Array("u".to_owned(), pids.iter().map(|pid| Value::U32(*pid)).collect()));
        }
        let io = if group.unified { "IOAccounting" } else { "BlockIOAccounting" };
        for name in ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"] {
            add(name, Value::Bool(true));
        }
        add("DefaultDependencies", Value::Bool(false));
        if let Some((_, value)) = resources.unified.iter().find(|(key, _)| key == "memory.oom.group") {
            match value.trim() {
                "0" => add("OOMPolicy", Value::Str("continue".to_owned())),
                "1" => add("OOMPolicy", Value::Str("kill".to_owned())),
                _ => {}
            }
        }
        list.extend(self.limits(group, resources)?);
        list.extend(more.iter().cloned());
        Ok(array(list))
    }

    fn limits(&mut self, group: &Cgroup, resources: &Resources) -> Result<Vec<Property>, Error> {
        let version = if properties::needs_version(resources) { self.version()? } else { 0 };
        let v2: Option<&Path> = group.unified_dir();
        properties::of(resources, Target { version, v2 })
    }

    /// Changes the limits of a running unit: systemd's first, then the group's.
    ///
    /// # Errors
    /// As [`Systemd::start`]; on v1 systemd would set device rules in a way that the container notices, so they are
    /// left to the group.
    pub fn set(&mut self, unit: &Unit, group: &Cgroup, resources: &Resources) -> Result<Vec<String>, Error> {
        // Before systemd sets what would have the container killed.
        group.check_usage(resources)?;
        let mut known = resources.clone();
        if !group.unified {
            known.devices = None;
        }
        let list = self.limits(group, &known)?;
        if !list.is_empty() {
            // For as long as the unit is there, not in files.
            let body = [Value::Str(unit.name.clone()), Value::Bool(true), array(list)];
            self.manager("SetUnitProperties", &body).map_err(failed(format!("change the unit {}", unit.name)))?;
        }
        Ok(group.apply_lenient(resources)?)
    }

    /// Moves running processes to the unit, or to the group `below` it (empty for the unit's own). systemd has the
    /// right to do so where the caller has not.
    ///
    /// # Errors
    /// [`Error::Bus`]
    pub fn attach(&mut self, unit: &Unit, below: &str, pids: &[u32]) -> Result<(), Error> {
        let below = if below.is_empty() { String::new() } else { format!("/{}", crate::path::checked(below)?) };
        let body = [
            Value::Str(unit.name.clone()),
            Value::Str(below),
            Value::Array("u".to_owned(), pids.iter().map(|pid| Value::U32(*pid)).collect()),
        ];
        self.manager("AttachProcessesToUnit", &body)
            .map(drop)
            .map_err(failed(format!("move processes to the unit {}", unit.name)))
    }

    /// Stops the unit, which kills what is in it, and makes systemd forget it. A unit that is gone is no error. The
    /// group is to be removed afterwards: old versions leave groups below it, and v1 has parts that are not systemd's.
    ///
    /// # Errors
    /// [`Error::Bus`]
    pub fn stop(&mut self, unit: &Unit) -> Result<(), Error> {
        let body = [Value::Str(unit.name.clone()), Value::Str("replace".to_owned())];
        let action = format!("stop the unit {}", unit.name);
        let stopped = match self.manager("StopUnit", &body) {
            Ok(job) => match self.wait(&job, &action) {
                // The job is over; a unit that failed at it is forgotten below.
                Err(Error::Job { .. }) => Ok(()),
                other => other,
            },
            Err(e) if e.is("org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            Err(e) => Err(failed(&action)(e)),
        };
        let _ = self.manager("ResetFailedUnit", &body[..1]);
        stopped
    }

    /// Waits until the job, the answer to a call that makes one, is done.
    fn wait(&mut self, answer: &[Value], action: &str) -> Result<(), Error> {
        let [Value::Path(job)] = answer else { return Err(failed(action)(BusError::Malformed)) };
        let ended = |message: &Message| {
            if message.interface.as_deref() != Some(MANAGER) || message.member.as_deref() != Some("JobRemoved") {
                return None;
            }
            match message.body.as_slice() {
                [_, Value::Path(path), _, Value::Str(result)] if path == job => Some(result.clone()),
                _ => None,
            }
        };
        match self.bus.signal(Instant::now() + PATIENCE, ended).map_err(failed(action))?.as_str() {
            "done" => Ok(()),
            result => Err(Error::Job { action: action.to_owned(), result: result.to_owned() }),
        }
    }
}

fn failed(action: impl Into<String>) -> impl FnOnce(BusError) -> Error {
    let action = action.into();
    move |source| Error::Bus { action, source }
}

/// `a(sv)`
fn array(list: Vec<Property>) -> Value {
    let one = |(name, value)| Value::Struct(vec![Value::Str(name), Value::Variant(Box::new(value))]);
    Value::Array("(sv)".to_owned(), list.into_iter().map(one).collect())
}
