//! Limits, devices and the other parts of `HostConfig` that are values of one flag each.

use serde_json::{Map, Value, json};

use super::{csv, pair};
use crate::{Error, Result, flags::Parsed};

/// Billionths of a CPU of a decimal such as `1.5`.
pub(crate) fn nano_cpus(text: &str) -> Result<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.trim_end_matches('0').len() > 9 {
        return Err(Error::invalid("value is too precise"));
    }
    let nano = |text: &str| text.parse::<i64>().ok();
    let whole = if whole.is_empty() { Some(0) } else { nano(whole) };
    let fraction = format!("{fraction:0<9}");
    let value = whole.and_then(|whole| whole.checked_mul(1_000_000_000)?.checked_add(nano(&fraction[..9])?));
    value.ok_or_else(|| Error::invalid(format!("failed to parse {text} as a rational number")))
}

/// `HostConfig.RestartPolicy` of `no`, `always`, `unless-stopped` or `on-failure[:max]`.
pub(crate) fn restart_policy(text: &str) -> Result<Value> {
    let (name, count) = match text.split_once(':') {
        None => (text, 0),
        Some((_, "")) => {
            return Err(Error::invalid("invalid restart policy format: maximum retry count must be an integer"));
        }
        Some((name, count)) => {
            let count = count
                .parse::<i64>()
                .map_err(|_| Error::invalid("invalid restart policy format: maximum retry count must be an integer"))?;
            (name, count)
        }
    };
    if name.is_empty() && text.contains(':') {
        return Err(Error::invalid("invalid restart policy format: no policy provided before colon"));
    }
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

/// Puts limits and devices into `HostConfig`.
pub(crate) fn resources(parsed: &Parsed, host: &mut Map<String, Value>) -> Result<()> {
    let mut put = |key: &str, value: Value| drop(host.insert(key.into(), value));
    for (flag, key) in [
        ("memory", "Memory"),
        ("memory-reservation", "MemoryReservation"),
        ("memory-swap", "MemorySwap"),
        ("shm-size", "ShmSize"),
    ] {
        if parsed.given(flag) {
            put(key, json!(parsed.bytes(flag)));
        }
    }
    for (flag, key) in [
        ("blkio-weight", "BlkioWeight"),
        ("cpu-period", "CpuPeriod"),
        ("cpu-quota", "CpuQuota"),
        ("cpu-rt-period", "CpuRealtimePeriod"),
        ("cpu-rt-runtime", "CpuRealtimeRuntime"),
        ("cpu-shares", "CpuShares"),
        ("oom-score-adj", "OomScoreAdj"),
        ("pids-limit", "PidsLimit"),
    ] {
        if parsed.given(flag) {
            put(key, json!(parsed.int(flag)));
        }
    }
    if parsed.given("memory-swappiness") {
        let value = parsed.int("memory-swappiness");
        if value != -1 && !(0..=100).contains(&value) {
            return Err(Error::invalid(format!("invalid value: {value}. Valid memory swappiness range is 0-100")));
        }
        put("MemorySwappiness", json!(value));
    }
    if let Some(cpus) = parsed.opt("cpus") {
        put("NanoCpus", json!(nano_cpus(cpus)?));
    }
    for (flag, key) in [("cpuset-cpus", "CpusetCpus"), ("cpuset-mems", "CpusetMems"), ("cgroup-parent", "CgroupParent")]
    {
        if let Some(value) = parsed.opt(flag) {
            put(key, json!(value));
        }
    }
    if parsed.given("oom-kill-disable") {
        put("OomKillDisable", json!(parsed.on("oom-kill-disable")));
    }
    let ulimits = parsed.list("ulimit").map(ulimit).collect::<Result<Vec<_>>>()?;
    if !ulimits.is_empty() {
        put("Ulimits", json!(ulimits));
    }
    let weights = parsed.list("blkio-weight-device").map(weight_device).collect::<Result<Vec<_>>>()?;
    if !weights.is_empty() {
        put("BlkioWeightDevice", json!(weights));
    }
    for (flag, key, sized) in [
        ("device-read-bps", "BlkioDeviceReadBps", true),
        ("device-write-bps", "BlkioDeviceWriteBps", true),
        ("device-read-iops", "BlkioDeviceReadIOps", false),
        ("device-write-iops", "BlkioDeviceWriteIOps", false),
    ] {
        let rates = parsed.list(flag).map(|text| throttle(flag, text, sized)).collect::<Result<Vec<_>>>()?;
        if !rates.is_empty() {
            put(key, json!(rates));
        }
    }
    let (cdi, plain): (Vec<&str>, Vec<&str>) = parsed.list("device").partition(|text| is_cdi(text));
    let devices = plain.into_iter().map(device).collect::<Result<Vec<_>>>()?;
    if !devices.is_empty() {
        put("Devices", json!(devices));
    }
    let mut requests = Vec::new();
    if !cdi.is_empty() {
        requests.push(json!({"Driver": "cdi", "DeviceIDs": cdi}));
    }
    if let Some(text) = parsed.opt("gpus") {
        requests.push(gpus(text)?);
    }
    if !requests.is_empty() {
        put("DeviceRequests", json!(requests));
    }
    let rules: Vec<&str> = parsed.list("device-cgroup-rule").collect();
    for rule in &rules {
        let parts: Vec<&str> = rule.split(' ').collect();
        let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
        let good = matches!(parts.as_slice(), [kind, numbers, access]
            if matches!(*kind, "a" | "b" | "c")
                && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                && !access.is_empty() && access.bytes().all(|byte| b"rwm".contains(&byte)));
        if !good {
            return Err(Error::invalid(format!(
                "invalid argument {rule:?} for \"--device-cgroup-rule\" flag: invalid device cgroup format '{rule}'"
            )));
        }
    }
    if !rules.is_empty() {
        put("DeviceCgroupRules", json!(rules));
    }
    Ok(())
}

fn ulimit(text: &str) -> Result<Value> {
    let wrong = |why: String| Error::invalid(format!("invalid argument {text:?} for \"--ulimit\" flag: {why}"));
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, values) = text.split_once('=').ok_or_else(|| wrong(format!("invalid ulimit argument: {text}")))?;
    if !NAMES.contains(&name) {
        return Err(wrong(format!("invalid ulimit type: {name}")));
    }
    let number = |text: &str| {
        text.parse::<i64>().map_err(|_| wrong(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(wrong(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// `vendor/class=name`, the qualified name of a CDI device.
fn is_cdi(text: &str) -> bool {
    !text.starts_with('/') && text.split_once('=').is_some_and(|(kind, name)| kind.contains('/') && !name.is_empty())
}

fn device(text: &str) -> Result<Value> {
    let parts: Vec<&str> = text.split(':').collect();
    let access = |text: &str| !text.is_empty() && text.bytes().all(|byte| b"rwm".contains(&byte));
    let wrong = || Error::invalid(format!("invalid device specification: {text}"));
    let (host, inside, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, second] if access(second) => (*host, *host, *second),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, permissions] if access(permissions) => (*host, *inside, *permissions),
        _ => return Err(wrong()),
    };
    if host.is_empty() || inside.is_empty() {
        return Err(wrong());
    }
    if !inside.starts_with('/') {
        return Err(Error::invalid(format!("{inside} is not an absolute path")));
    }
    Ok(json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": permissions}))
}

fn split_device<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str)> {
    match text.rsplit_once(':') {
        Some((path, rate)) if path.starts_with("/dev/") => Ok((path, rate)),
        Some((path, _)) if !path.is_empty() => Err(Error::invalid(format!(
            "invalid argument {text:?} for \"--{flag}\" flag: bad format for device path: {text}"
        ))),
        _ => Err(Error::invalid(format!("invalid argument {text:?} for \"--{flag}\" flag: bad format: {text}"))),
    }
}

fn weight_device(text: &str) -> Result<Value> {
    let (path, weight) = split_device("blkio-weight-device", text)?;
    match weight.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => Ok(json!({"Path": path, "Weight": weight})),
        _ => Err(Error::invalid(format!(
            "invalid argument {text:?} for \"--blkio-weight-device\" flag: invalid weight for device: {text}"
        ))),
    }
}

fn throttle(flag: &str, text: &str, sized: bool) -> Result<Value> {
    let (path, rate) = split_device(flag, text)?;
    let parsed = if sized { types::ram_in_bytes(rate).ok() } else { rate.parse().ok() };
    match parsed {
        Some(rate) => Ok(json!({"Path": path, "Rate": rate})),
        None => Err(Error::invalid(format!(
            "invalid argument {text:?} for \"--{flag}\" flag: invalid rate for device: {text}"
        ))),
    }
}

/// `all`, a count, or `device=…,driver=…,capabilities=…`.
fn gpus(text: &str) -> Result<Value> {
    let wrong = |why: String| Error::invalid(format!("invalid argument {text:?} for \"--gpus\" flag: {why}"));
    let count_of = |text: &str| match text {
        "all" => Ok(-1),
        number => number
            .parse::<i64>()
            .map_err(|_| wrong(format!("invalid count ({number}): value must be either \"all\" or an integer"))),
    };
    let (mut count, mut driver, mut devices, mut capabilities) = (None, String::new(), Vec::new(), Vec::new());
    let mut options = Map::new();
    for field in csv(text)? {
        match field.split_once('=') {
            None => count = Some(count_of(&field)?),
            Some(("count", value)) => count = Some(count_of(value)?),
            Some(("driver", value)) => driver = value.to_owned(),
            Some(("device", value)) => devices.extend(value.split(',').map(str::to_owned)),
            Some(("capabilities", value)) => capabilities.extend(value.split(',').map(str::to_owned)),
            Some(("options", value)) => options.extend(value.split(',').map(|option| {
                let (key, value) = pair(option);
                (key, json!(value))
            })),
            Some((key, _)) => return Err(wrong(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    let count = count.unwrap_or(if devices.is_empty() { 1 } else { 0 });
    if !capabilities.iter().any(|one| one == "gpu") {
        capabilities.insert(0, "gpu".into());
    }
    Ok(
        json!({"Driver": driver, "Count": count, "DeviceIDs": devices, "Capabilities": [capabilities], "Options": options}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(nano_cpus("1.5").unwrap(), 1_500_000_000);
        assert_eq!(nano_cpus(".25").unwrap(), 250_000_000);
        assert!(nano_cpus("1.0000000001").is_err());
        assert_eq!(restart_policy("on-failure:3").unwrap(), json!({"Name": "on-failure", "MaximumRetryCount": 3}));
        assert!(restart_policy("on-failure:x").is_err());
        assert_eq!(ulimit("nofile=10:20").unwrap(), json!({"Name": "nofile", "Soft": 10, "Hard": 20}));
        assert!(ulimit("nofile=20:10").is_err());
        assert!(ulimit("foo=1").unwrap_err().to_string().contains("invalid ulimit type: foo"));
        assert_eq!(
            device("/dev/a:r").unwrap(),
            json!({"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "r"})
        );
        assert!(device("/dev/a:b").is_err() && device("/dev/a:/b:x").is_err());
        assert!(is_cdi("nvidia.com/gpu=all") && !is_cdi("/dev/a=b"));
        assert_eq!(gpus("all").unwrap()["Count"], json!(-1));
        assert_eq!(
            throttle("device-read-bps", "/dev/sda:1m", true).unwrap(),
            json!({"Path": "/dev/sda", "Rate": 1 << 20})
        );
    }
}
