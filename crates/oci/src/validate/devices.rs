//! Rules of device nodes and of who may use them (runtime-spec, config-linux.md "Devices", "Allowed Device list").

use std::fmt::Display;

use super::text::{absolute, fault};
use crate::fault::shown;
use crate::{Device, DeviceRule, Fault};

/// Bits of a major number in Linux (`MINORBITS` of linux/kdev_t.h leaves 12).
const MAX_MAJOR: i64 = 0xfff;
/// Bits of a minor number.
const MAX_MINOR: i64 = 0xf_ffff;

/// Nodes to make.
pub(super) fn nodes(devices: &[Device]) -> Result<(), Fault> {
    for (at, device) in devices.iter().enumerate() {
        absolute(format_args!("linux.devices[{at}].path"), &device.path)?;
        if device.path.ends_with('/') || device.path.split('/').any(|part| matches!(part, "." | "..")) {
            let reason =
                format!("{} is not the path of a file; write it without ., .. and / at the end", shown(&device.path));
            return fault(format_args!("linux.devices[{at}].path"), reason);
        }
        match device.kind.as_str() {
            "c" | "b" | "u" => numbers(format_args!("linux.devices[{at}]"), device.major, device.minor)?,
            "p" => {}
            other => {
                let reason = format!("{} is not a type of device; write c, b, u or p", shown(other));
                return fault(format_args!("linux.devices[{at}].type"), reason);
            }
        }
        for (name, id) in [("uid", device.uid), ("gid", device.gid)] {
            if id == Some(u32::MAX) {
                let reason = format!("{} is not an id but stands for none; write another", u32::MAX);
                return fault(format_args!("linux.devices[{at}].{name}"), reason);
            }
        }
    }
    Ok(())
}

/// Numbers of a device.
pub(super) fn numbers(path: impl Display, major: i64, minor: i64) -> Result<(), Fault> {
    for (name, value, most) in [("major", major, MAX_MAJOR), ("minor", minor, MAX_MINOR)] {
        if !(0..=most).contains(&value) {
            return fault(format_args!("{path}.{name}"), format!("{value} is out of range; write 0 to {most}"));
        }
    }
    Ok(())
}

/// Who may use which.
pub(super) fn rules(rules: &[DeviceRule]) -> Result<(), Fault> {
    for (at, rule) in rules.iter().enumerate() {
        if let Some(kind) = &rule.kind
            && !matches!(kind.as_str(), "a" | "b" | "c")
        {
            let reason = format!("{} is not a type of device; write a, b or c", shown(kind));
            return fault(format_args!("linux.resources.devices[{at}].type"), reason);
        }
        for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
            if let Some(number) = number.filter(|n| *n != -1 && u32::try_from(*n).is_err()) {
                let reason = format!("{number} is out of range; write 0 or more, or -1 for any");
                return fault(format_args!("linux.resources.devices[{at}].{name}"), reason);
            }
        }
        let access = rule.access.as_deref().unwrap_or_default();
        let count = |letter| access.matches(letter).count();
        let known = count('r') + count('w') + count('m');
        if known == 0 || known != access.len() || ['r', 'w', 'm'].iter().any(|letter| count(*letter) > 1) {
            let reason = format!("{} is not an access; write one or more of r, w and m, each once", shown(access));
            return fault(format_args!("linux.resources.devices[{at}].access"), reason);
        }
    }
    Ok(())
}
