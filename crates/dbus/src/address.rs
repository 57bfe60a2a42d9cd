//! Where a bus listens (D-Bus Specification, "Server Addresses"): text of the environment to sockets.
//!
//! Invariant: only addresses of this machine's sockets are taken; whatever else an address list offers is
//! passed over.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::SocketAddrUnix;

/// The system bus, if the environment does not say otherwise.
const SYSTEM: &str = "unix:path=/run/dbus/system_bus_socket";

/// Where the system bus listens (`DBUS_SYSTEM_BUS_ADDRESS`, else its well-known socket).
#[must_use]
pub fn system_address() -> String {
    std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok().filter(|a| !a.is_empty()).unwrap_or_else(|| SYSTEM.to_owned())
}

/// Where the bus of the user's session listens, or `None` if the environment does not lead to one.
#[must_use]
pub fn session_address() -> Option<String> {
    if let Some(address) = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|a| !a.is_empty()) {
        return Some(address);
    }
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty())?;
    let path = Path::new(&dir).join("bus");
    path.exists().then(|| format!("unix:path={}", escape(path.as_os_str().as_bytes())))
}

/// Sockets that `list`, addresses separated by `;`, names.
pub(crate) fn sockets(list: &str) -> Vec<SocketAddrUnix> {
    let one = |address: &str| {
        let keys = address.strip_prefix("unix:")?;
        keys.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = unescape(value)?;
            match key {
                "path" => SocketAddrUnix::new(&value[..]).ok(),
                "abstract" => SocketAddrUnix::new_abstract_name(&value).ok(),
                _ => None,
            }
        })
    };
    list.split(';').filter_map(one).collect()
}

/// Bytes that need no escape in an address.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/' | b'\\' | b'.' | b'*')
}

fn escape(value: &[u8]) -> String {
    let one = |b: &u8| if is_plain(*b) { char::from(*b).to_string() } else { format!("%{b:02x}") };
    value.iter().map(one).collect()
}

fn unescape(value: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let digits = rest.get(..2)?;
        out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[2..];
    }
    (!out.is_empty() && !out.contains(&0)).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_addresses() {
        let list = sockets(
            "tcp:host=x,port=1;unix:path=/run/user/1%20000/bus,guid=ab;unix:abstract=/tmp/x;unix:tmpdir=/tmp;unix:path=%zz",
        );
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].path_bytes(), Some(&b"/run/user/1 000/bus"[..]));
        assert_eq!(list[1].abstract_name(), Some(&b"/tmp/x"[..]));
        assert_eq!(escape(b"/run/a b;c"), "/run/a%20b%3bc");
        assert!(sockets("").is_empty());
    }
}
