//! What a running container may use, and what it does use: update, events, pause, resume.

use std::io::Read;
use std::os::fd::AsFd;

use cgroup::FreezerState;
use oci::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use types::{GoDuration, ram_in_bytes};

use super::inspect::print;
use crate::alive;
use crate::bundle::read_document;
use crate::context::Context;
use crate::error::{Doing, Error, Result};
use crate::flags::{Flag, Given, option, switch};
use crate::store::Record;
use crate::{limits, statistics};

pub(crate) const UPDATE: &[Flag] = &[
    option("resources", Some('r'), "FILE", "linux.resources as a JSON document; - for standard input"),
    option("blkio-weight", None, "N", "block I/O weight, 10 to 1000"),
    option("cpu-period", None, "US", "length of a CPU period in microseconds"),
    option("cpu-quota", None, "US", "CPU time a period in microseconds; -1 lifts the limit"),
    option("cpu-burst", None, "US", "CPU time that may be saved up in microseconds"),
    option("cpu-share", None, "N", "share of the CPU against other containers"),
    option("cpu-rt-period", None, "US", "length of a real-time period in microseconds"),
    option("cpu-rt-runtime", None, "US", "real-time CPU time a period in microseconds"),
    option("cpuset-cpus", None, "LIST", "CPUs to run on"),
    option("cpuset-mems", None, "LIST", "memory nodes to use"),
    option("cpu-idle", None, "0|1", "run only where nothing else wants to"),
    option("memory", None, "BYTES", "memory limit; -1 lifts it"),
    option("memory-reservation", None, "BYTES", "memory kept when there is little"),
    option("memory-swap", None, "BYTES", "limit of memory and swap together; -1 lifts it"),
    option("kernel-memory", None, "BYTES", "accepted where the kernel has the limit (v1 before Linux 5.16)"),
    option("kernel-memory-tcp", None, "BYTES", "memory for TCP buffers (v1)"),
    option("pids-limit", None, "N", "most processes; -1 lifts the limit"),
];
pub(crate) const EVENTS: &[Flag] = &[
    switch("stats", None, "print the statistics once and end"),
    option("interval", None, "DURATION", "time between statistics (default 5s)"),
];

/// The record of a container that has not stopped.
fn running(context: &Context, given: &Given) -> Result<Record> {
    let place = context.store.open(given.id()?)?;
    let record = place.load()?;
    match alive::status(&place, &record)? {
        Status::Stopped | Status::Creating => Err(Error::NotRunning),
        _ => Ok(record),
    }
}

pub(crate) fn pause(context: &Context, given: &Given) -> Result<u8> {
    let place = context.store.open(given.id()?)?;
    let record = place.load()?;
    match alive::status(&place, &record)? {
        Status::Running | Status::Created => record.group.group()?.freeze()?,
        Status::Paused => return Err(Error::State("container already paused".to_owned())),
        Status::Stopped | Status::Creating => return Err(Error::NotRunning),
    }
    Ok(0)
}

pub(crate) fn resume(context: &Context, given: &Given) -> Result<u8> {
    let place = context.store.open(given.id()?)?;
    let group = place.load()?.group.group()?;
    if group.freezer_state()? == FreezerState::Thawed {
        return Err(Error::State("container not paused".to_owned()));
    }
    group.thaw()?;
    Ok(0)
}

pub(crate) fn update(context: &Context, given: &Given) -> Result<u8> {
    let record = running(context, given)?;
    let mut resources = match given.value("resources") {
        Some("-") => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).doing(|| "read the limits from standard input".to_owned())?;
            oci::Resources::parse(&text)?
        }
        Some(path) => oci::Resources::parse(&read_document(path.as_ref())?)?,
        None => oci::Resources::default(),
    };
    let bytes = |flag: &str| match given.value(flag) {
        None => Ok(None),
        Some("-1") => Ok(Some(-1)),
        Some(text) => {
            let bytes = ram_in_bytes(text).ok().and_then(|bytes| i64::try_from(bytes).ok());
            bytes
                .map(Some)
                .ok_or_else(|| Error::Usage(format!("--{flag} takes a size such as 64m, or -1, not {text:?}")))
        }
    };
    fn set<T>(place: &mut Option<T>, value: Option<T>) {
        if value.is_some() {
            *place = value;
        }
    }
    set(&mut resources.memory.limit, bytes("memory")?);
    set(&mut resources.memory.reservation, bytes("memory-reservation")?);
    set(&mut resources.memory.swap, bytes("memory-swap")?);
    set(&mut resources.memory.kernel, bytes("kernel-memory")?);
    set(&mut resources.memory.kernel_tcp, bytes("kernel-memory-tcp")?);
    let cpu = &mut resources.cpu;
    set(&mut cpu.period, given.number("cpu-period")?);
    set(&mut cpu.quota, given.number("cpu-quota")?);
    set(&mut cpu.burst, given.number("cpu-burst")?);
    set(&mut cpu.shares, given.number("cpu-share")?);
    set(&mut cpu.realtime_period, given.number("cpu-rt-period")?);
    set(&mut cpu.realtime_runtime, given.number("cpu-rt-runtime")?);
    set(&mut cpu.idle, given.number("cpu-idle")?);
    for (place, flag) in [(&mut cpu.cpus, "cpuset-cpus"), (&mut cpu.mems, "cpuset-mems")] {
        if let Some(list) = given.value(flag) {
            list.clone_into(place);
        }
    }
    set(&mut resources.pids.limit, given.number("pids-limit")?);
    set(&mut resources.block_io.weight, given.number("blkio-weight")?);
    for warning in resources.validate()? {
        context.log.warn(&warning);
    }
    for warning in record.group.change(&limits::changes(&resources)?)? {
        context.log.warn(&warning);
    }
    Ok(0)
}

pub(crate) fn events(context: &Context, given: &Given) -> Result<u8> {
    let id = given.id()?.to_owned();
    let record = running(context, given)?;
    let group = record.group.group()?;
    if given.has("stats") {
        print(&format!("{}\n", statistics::line(&id, &group)?))?;
        return Ok(0);
    }
    let interval: GoDuration = given
        .value("interval")
        .unwrap_or("5s")
        .parse()
        .map_err(|error| Error::Usage(format!("--interval: {error}; write a duration such as 500ms or 5s")))?;
    if interval.nanos() <= 0 {
        return Err(Error::Usage("--interval must be above zero".to_owned()));
    }
    let interval = interval.to_std();
    let target = alive::pidfd(&record).map_err(|_| Error::NotRunning)?;
    let mut kills = group.oom_kills().unwrap_or(0);
    let timeout = Timespec {
        tv_sec: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(interval.subsec_nanos()),
    };
    loop {
        let ended = matches!(
            poll(&mut [PollFd::from_borrowed_fd(target.as_fd(), PollFlags::IN)], Some(&timeout)),
            Ok(ready) if ready > 0
        );
        let now = group.oom_kills().unwrap_or(kills);
        for _ in kills..now {
            print(&format!("{}\n", statistics::memory_kill(&id)?))?;
        }
        kills = now;
        if ended {
            return Ok(0);
        }
        print(&format!("{}\n", statistics::line(&id, &group)?))?;
    }
}
