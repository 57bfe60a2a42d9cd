//! Limits as properties of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)). What systemd has
//! no property for is written to the control group afterwards, as everything else is again: systemd then
//! knows the limits that it would otherwise undo at its next reload.
//!
//! Invariant: a property is given only to a systemd that knows it.

use std::path::Path;

use super::error::Error;
use crate::apply_v2::swap_alone;
use crate::device_list::DeviceList;
use crate::devices::{self, DeviceKind};
use crate::resources::{DEFAULT_PERIOD, Resources, io_weight, weight_of_shares};
use crate::{DeviceRule, Error as CgroupError, file};
use dbus::Value;

/// A property's name and value.
pub type Property = (String, Value);

/// What the properties depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// systemd's version: 252.
    pub(super) version: u32,
    /// The group's directory if v2 carries the limits.
    pub(super) v2: Option<&'a Path>,
}

/// systemd's infinity, for bytes, tasks and microseconds.
const INFINITY: u64 = u64::MAX;
/// Versions that brought properties.
const QUOTA_PERIOD: u32 = 242;
const ALLOWED_CPUS: u32 = 244;
const IDLE: u32 = 252;
const DEVICE_NUMBERS: u32 = 240;

/// -1 is no limit, and no systemd takes less.
fn bytes(n: i64) -> Value {
    Value::U64(u64::try_from(n).unwrap_or(INFINITY))
}

/// Whether the properties need to know systemd's version.
pub(super) fn needs_version(r: &Resources) -> bool {
    let (quota, period) = r.quota_and_period();
    quota.is_some()
        || period.is_some()
        || r.cpu_idle.is_some()
        || r.cpuset_cpus.is_some()
        || r.cpuset_mems.is_some()
        || r.devices.is_some()
        || !r.unified.is_empty()
}

pub(super) fn of(r: &Resources, target: Target<'_>) -> Result<Vec<Property>, Error> {
    let mut out: Vec<Property> = Vec::new();
    let mut add = |name: &str, value: Value| out.push((name.to_owned(), value));
    if let Some(rules) = &r.devices {
        for (name, value) in device_properties(rules, target.version)? {
            add(name, value);
        }
    }
    let set = |n: Option<i64>| n.filter(|n| *n != 0);
    match target.v2 {
        Some(dir) => {
            if let Some(limit) = set(r.memory) {
                add("MemoryMax", bytes(limit));
            }
            if let Some(limit) = set(r.memory_reservation) {
                add("MemoryLow", bytes(limit));
            }
            if let Some(swap) = swap_max(r, dir)? {
                add("MemorySwapMax", Value::U64(swap));
            }
            if r.cpu_idle == Some(1) && target.version >= IDLE {
                // The weight that makes systemd set cpu.idle.
                add("CPUWeight", Value::U64(0));
            } else if let Some(shares) = r.cpu_shares.filter(|s| *s != 0) {
                add("CPUWeight", Value::U64(weight_of_shares(shares)));
            }
            if let Some(weight) = r.blkio_weight.filter(|w| *w != 0) {
                add("IOWeight", Value::U64(io_weight(weight)));
            }
        }
        None => {
            if let Some(limit) = set(r.memory) {
                add("MemoryLimit", bytes(limit));
            }
            if let Some(shares) = r.cpu_shares.filter(|s| *s != 0) {
                add("CPUShares", Value::U64(shares));
            }
            if let Some(weight) = r.blkio_weight.filter(|w| *w != 0) {
                add("BlockIOWeight", Value::U64(u64::from(weight)));
            }
        }
    }
    let (quota, period) = r.quota_and_period();
    quota_properties(quota, period, target.version, &mut add);
    if let Some(limit) = r.pids_limit {
        add("TasksMax", Value::U64(u64::try_from(limit).map_or(INFINITY, |n| n.max(1))));
    }
    for (name, list) in [("AllowedCPUs", &r.cpuset_cpus), ("AllowedMemoryNodes", &r.cpuset_mems)] {
        if let Some(list) = list.as_ref().filter(|l| !l.is_empty() && target.version >= ALLOWED_CPUS) {
            add(name, Value::bytes(&mask(list)?));
        }
    }
    for (key, value) in &r.unified {
        unified(key, value.trim(), r, target.version, &mut add)?;
    }
    Ok(out)
}

fn quota_properties(quota: Option<i64>, period: Option<u64>, version: u32, add: &mut impl FnMut(&str, Value)) {
    if let Some(period) = period.filter(|_| version >= QUOTA_PERIOD) {
        add("CPUQuotaPeriodUSec", Value::U64(period));
    }
    if quota.is_none() && period.is_none() {
        return;
    }
    let per_second = match quota.and_then(|q| u64::try_from(q).ok()).filter(|q| *q > 0) {
        Some(quota) => {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(DEFAULT_PERIOD).max(1));
            // systemd keeps whole percents of a CPU. Rounded up, the exact quota fits when it is written to the group.
            u64::try_from(exact.next_multiple_of(10_000)).unwrap_or(INFINITY)
        }
        None => INFINITY,
    };
    add("CPUQuotaPerSecUSec", Value::U64(per_second));
}

/// `MemorySwapMax` for the limit of memory and swap together.
fn swap_max(r: &Resources, dir: &Path) -> Result<Option<u64>, Error> {
    let memory = r.memory.filter(|m| *m != 0);
    let text = match r.memory_swap.filter(|s| *s != 0) {
        None if memory == Some(-1) => return Ok(Some(INFINITY)),
        None => return Ok(None),
        Some(both) => {
            let memory = match memory {
                Some(m) => u64::try_from(m).unwrap_or(u64::MAX),
                None if both > 0 => file::read_number(&dir.join("memory.max"))?,
                None => u64::MAX,
            };
            swap_alone(both, memory)?
        }
    };
    Ok(Some(text.parse().unwrap_or(INFINITY)))
}

/// A list of numbers as bits, the least in the first byte. systemd takes no trailing zeros amiss.
fn mask(list: &str) -> Result<Vec<u8>, Error> {
    let bad = || {
        let reason = "a list has numbers below 8192 and ranges of them, with commas between";
        CgroupError::Invalid { control: "CPUs or memory nodes", value: list.chars().take(80).collect(), reason }
    };
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < 8192).ok_or_else(bad);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad().into());
        }
        for n in first..=last {
            if bits.len() <= n / 8 {
                bits.resize(n / 8 + 1, 0);
            }
            bits[n / 8] |= 1 << (n % 8);
        }
    }
    if bits.is_empty() { Err(bad().into()) } else { Ok(bits) }
}

/// systemd has lists of what is allowed only. A list of what is denied becomes nothing allowed, until the group
/// itself is told.
fn device_properties(rules: &[DeviceRule], version: u32) -> Result<Vec<(&'static str, Value)>, Error> {
    devices::check(rules)?;
    let entries = |list: Vec<Value>| Value::Array("(ss)".to_owned(), list);
    let policy = |text: &str| ("DevicePolicy", Value::Str(text.to_owned()));
    // Empties the list before it is filled.
    let empty = ("DeviceAllow", entries(Vec::new()));
    let list = match DeviceList::of(rules) {
        Ok(list) => list,
        Err(_) => return Ok(vec![policy("strict"), empty]),
    };
    if list.allow {
        let policy = policy(if list.exceptions.is_empty() { "auto" } else { "strict" });
        return Ok(vec![policy, empty]);
    }
    let allowed = list.exceptions.iter().filter_map(|rule| {
        let kind = if rule.kind == DeviceKind::Block { "block" } else { "char" };
        let node = match (rule.major, rule.minor) {
            (None, None) => format!("{kind}-*"),
            // No form for every device of one minor number.
            (None, Some(_)) => return None,
            (Some(major), None) if version >= DEVICE_NUMBERS => format!("{kind}-{major}"),
            // Older versions want names of /proc/devices and nodes that exist.
            (Some(_), None) => return None,
            (Some(major), Some(minor)) => {
                let path = format!("/dev/{kind}/{major}:{minor}");
                if version < DEVICE_NUMBERS && !Path::new(&path).exists() {
                    return None;
                }
                path
            }
        };
        Some(Value::Struct(vec![Value::Str(node), Value::Str(rule.access.text())]))
    });
    Ok(vec![policy("strict"), empty, ("DeviceAllow", entries(allowed.collect()))])
}

/// Files of v2 that systemd has a property for; it leaves the others alone.
fn unified(
    key: &str,
    value: &str,
    r: &Resources,
    version: u32,
    add: &mut impl FnMut(&str, Value),
) -> Result<(), Error> {
    let bad = |reason| CgroupError::Invalid {
        control: "a unified resource",
        value: format!("\"{key}\" {}", value.chars().take(80).collect::<String>()),
        reason,
    };
    let number = |text: &str| text.parse::<u64>().map_err(|_| bad("it is a number"));
    let limit = |text: &str| if text == "max" { Ok(INFINITY) } else { number(text) };
    match key {
        "cpu.idle" if value == "1" && version >= IDLE => add("CPUWeight", Value::U64(0)),
        "cpu.weight" => {
            let idle = r.unified.iter().any(|(k, v)| k == "cpu.idle" && v.trim() == "1") && version >= IDLE;
            if !idle {
                add("CPUWeight", Value::U64(number(value)?));
            }
        }
        "cpu.max" => {
            let fields: Vec<&str> = value.split_whitespace().collect();
            let (quota, period) = match fields.as_slice() {
                [quota] => (*quota, DEFAULT_PERIOD),
                [quota, period] => (*quota, number(period)?),
                _ => return Err(bad("it is a quota and a period").into()),
            };
            let quota = if quota == "max" { -1 } else { i64::try_from(number(quota)?).unwrap_or(i64::MAX) };
            quota_properties(Some(quota), Some(period), version, add);
        }
        "cpuset.cpus" if version >= ALLOWED_CPUS => add("AllowedCPUs", Value::bytes(&mask(value)?)),
        "cpuset.mems" if version >= ALLOWED_CPUS => add("AllowedMemoryNodes", Value::bytes(&mask(value)?)),
        "memory.min" => add("MemoryMin", Value::U64(limit(value)?)),
        "memory.low" => add("MemoryLow", Value::U64(limit(value)?)),
        "memory.high" => add("MemoryHigh", Value::U64(limit(value)?)),
        "memory.max" => add("MemoryMax", Value::U64(limit(value)?)),
        "memory.swap.max" => add("MemorySwapMax", Value::U64(limit(value)?)),
        "pids.max" => add("TasksMax", Value::U64(limit(value)?.max(1))),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(r: &Resources, version: u32, v2: bool) -> Vec<String> {
        let target = Target { version, v2: v2.then(|| Path::new("/nonexistent")) };
        of(r, target).unwrap().into_iter().map(|(name, value)| format!("{name}={value:?}")).collect()
    }

    #[test]
    fn limits_of_either_version() {
        let r = Resources {
            memory: Some(64 << 20),
            memory_swap: Some(96 << 20),
            memory_reservation: Some(1 << 20),
            cpu_shares: Some(1024),
            cpu_quota: Some(12_345),
            cpu_period: Some(50_000),
            cpuset_cpus: Some("0,9-10".into()),
            pids_limit: Some(-1),
            blkio_weight: Some(1000),
            ..Resources::default()
        };
        assert_eq!(
            shown(&r, 252, true),
            [
                "MemoryMax=U64(67108864)",
                "MemoryLow=U64(1048576)",
                "MemorySwapMax=U64(33554432)",
                "CPUWeight=U64(100)",
                "IOWeight=U64(10000)",
                "CPUQuotaPeriodUSec=U64(50000)",
                "CPUQuotaPerSecUSec=U64(250000)",
                "TasksMax=U64(18446744073709551615)",
                "AllowedCPUs=Array(\"y\", [Byte(1), Byte(6)])",
            ]
        );
        assert_eq!(
            shown(&r, 239, false),
            [
                "MemoryLimit=U64(67108864)",
                "CPUShares=U64(1024)",
                "BlockIOWeight=U64(1000)",
                "CPUQuotaPerSecUSec=U64(250000)",
                "TasksMax=U64(18446744073709551615)",
            ]
        );
        assert!(shown(&Resources::default(), 252, true).is_empty());
        let lifted = Resources { memory: Some(-1), cpu_quota: Some(-1), ..Resources::default() };
        assert_eq!(shown(&lifted, 252, true).join(" ").matches("U64(18446744073709551615)").count(), 3);
    }

    #[test]
    fn devices_are_a_list_of_what_is_allowed() {
        let r = |rules| Resources { devices: Some(rules), ..Resources::default() };
        let parse = |text| DeviceRule::parse_allow(text).unwrap();
        let list =
            shown(&r(vec![parse("c 1:3 rw"), parse("c 136:* rwm"), parse("b *:* m"), parse("c *:7 r")]), 252, true);
        assert_eq!(list[0], "DevicePolicy=Str(\"strict\")");
        assert_eq!(list[1], "DeviceAllow=Array(\"(ss)\", [])");
        for there in ["/dev/char/1:3\"), Str(\"rw\"", "char-136", "block-*\"), Str(\"m\""] {
            assert!(list[2].contains(there), "{there}: {list:?}");
        }
        assert!(!list[2].contains(":7"));
        let all = shown(&r(vec![DeviceRule::allow_all()]), 252, true);
        assert_eq!(all, ["DevicePolicy=Str(\"auto\")", "DeviceAllow=Array(\"(ss)\", [])"]);
        let deny = DeviceRule { allow: false, ..parse("b 8:0 rwm") };
        assert_eq!(shown(&r(vec![DeviceRule::allow_all(), deny]), 252, true)[0], "DevicePolicy=Str(\"strict\")");
    }

    #[test]
    fn files_with_properties() {
        let of = |list: &[(&str, &str)]| {
            let unified = list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            shown(&Resources { unified, ..Resources::default() }, 252, true)
        };
        assert_eq!(
            of(&[("memory.high", "max\n"), ("pids.max", "0")]),
            ["MemoryHigh=U64(18446744073709551615)", "TasksMax=U64(1)"]
        );
        assert_eq!(of(&[("cpu.max", "max 50000")])[1], "CPUQuotaPerSecUSec=U64(18446744073709551615)");
        assert_eq!(of(&[("cpu.max", "25000")]), ["CPUQuotaPeriodUSec=U64(100000)", "CPUQuotaPerSecUSec=U64(250000)"]);
        assert_eq!(of(&[("cpu.weight", "5"), ("cpu.idle", "1")]), ["CPUWeight=U64(0)"]);
        assert!(of(&[("hugetlb.2MB.max", "5"), ("memory.oom.group", "1")]).is_empty());
        let bad = Resources { unified: vec![("pids.max".into(), "many".into())], ..Resources::default() };
        assert!(super::of(&bad, Target { version: 252, v2: None }).is_err());
    }

    #[test]
    fn masks() {
        assert_eq!(mask("0-2,7").unwrap(), [0b1000_0111]);
        assert_eq!(mask("8,").unwrap(), [0, 1]);
        for bad in ["", "a", "3-1", "8192", "-1", "0-99999999999"] {
            assert!(mask(bad).is_err(), "{bad}");
        }
    }
}
