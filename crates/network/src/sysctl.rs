//! Kernel settings of the network namespace a thread is in, through `/proc/sys/net`.
//!
//! Names are built from constants and an interface name that `BridgeConfig` has checked, so they cannot lead
//! elsewhere. See the kernel's `Documentation/networking/ip-sysctl.rst`.

use std::io;

use crate::{Error, Result};

/// Where forwarding between links is switched.
pub(crate) const IP_FORWARD: &str = "ipv4/ip_forward";

/// Reads a setting, without the line's end.
pub(crate) fn read(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(path(name))?.trim_end().to_owned())
}

/// Sets a value. Nothing is written when it holds already, since `/proc/sys` may be read-only in a container.
pub(crate) fn set(name: &str, value: &str) -> Result<()> {
    if read(name).is_ok_and(|present| present == value) {
        return Ok(());
    }
    std::fs::write(path(name), value).map_err(Error::io(format!("set sysctl net/{name} to {value}")))
}

/// As [`set`], for settings the kernel may lack (IPv6 switched off).
pub(crate) fn set_if_present(name: &str, value: &str) -> Result<()> {
    match set(name, value) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}
