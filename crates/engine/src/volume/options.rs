//! Options of the local driver: `type`, `device`, `o` and `size`, checked when a volume is made and read
//! into what mounting it takes.
//!
//! `o` becomes flags and single parameters of the file system, each handed to the kernel by itself: what
//! is inside a value can not turn into another option. Pure. Called by the volumes and by mounting.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sys::mount::attr;

/// The options as given, in order of their names.
pub(super) type Given = BTreeMap<String, String>;

const MS_REC: u64 = 0x4000;
const MS_UNBINDABLE: u64 = 1 << 17;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;

/// Whether a volume with these options has something mounted on its directory while it is used.
pub(super) fn is_mounted(given: &Given) -> bool {
    let set = |key: &str| given.get(key).is_some_and(|value| !value.is_empty());
    set("type") || set("device")
}

/// The size asked for, bytes; 0 for none.
///
/// # Errors
/// The text of what is wrong with it.
pub(super) fn size(given: &Given) -> Result<u64, String> {
    let Some(text) = given.get("size") else { return Ok(0) };
    types::ram_in_bytes(text).map_err(|_| format!("invalid size: '{text}'"))
}

/// Check options as dockerd does when a volume is made. `quota`: sizes can be enforced here.
///
/// # Errors
/// Docker's text.
pub(super) fn check(given: &Given, quota: bool) -> Result<(), String> {
    if let Some(key) = given.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device" | "size")) {
        return Err(format!("invalid option: {key:?}"));
    }
    for (key, value) in given {
        if value.contains('\0') {
            return Err(format!("invalid option: {key:?} has a NUL byte"));
        }
    }
    let device = given.get("device").map(String::as_str).unwrap_or_default();
    if given.get("type").is_some_and(|kind| kind == "cifs") && !device.is_empty() {
        let share = Share::parse(device)?;
        if share.port {
            return Err("port not allowed in CIFS device URL, include 'port' in 'o='".into());
        }
    }
    if size(given)? > 0 {
        if !quota {
            return Err("quota size requested but no quota support".into());
        }
        if is_mounted(given) {
            return Err(
                "size is for volumes of the data root alone: limit what is mounted by an option of its file system"
                    .into(),
            );
        }
    }
    for (key, needed) in [("o", "device"), ("o", "type"), ("type", "device"), ("device", "type")] {
        if given.contains_key(key) && !given.contains_key(needed) {
            return Err(format!("missing required option: {needed:?}"));
        }
    }
    Ok(())
}

/// What mounting a volume takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spec {
    pub kind: String,
    pub device: String,
    /// `MOUNT_ATTR_*` bits.
    pub attrs: u64,
    /// A bind, with what is mounted below when true.
    pub bind: Option<bool>,
    /// `MS_SHARED` and the like, 0 for none.
    pub propagation: u64,
    /// Flags of the file system itself, such as `ro`, then its parameters.
    pub parameters: Vec<(String, Option<String>)>,
    /// The `MS_*` bits and the other words, as error texts show them.
    flags: u64,
    data: Vec<String>,
    /// A word that makes no sense for a first mount.
    remount: bool,
}

impl Spec {
    /// Read checked options.
    pub(super) fn parse(given: &Given) -> Self {
        let get = |key: &str| given.get(key).cloned().unwrap_or_default();
        let mut spec = Self { kind: get("type"), device: get("device"), ..Self::default() };
        for word in get("o").split(',').filter(|word| !word.is_empty()) {
            if !spec.flag(word) {
                spec.data.push(word.to_owned());
                let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
                spec.parameters.push((key.to_owned(), value.map(str::to_owned)));
            }
        }
        spec
    }

    /// One word of mount(8) that is no parameter of a file system; `false` for any other.
    fn flag(&mut self, word: &str) -> bool {
        // Word, whether it sets or clears, the bit of mount(2), the attribute of the mount.
        const WORDS: &[(&str, bool, u64, u64)] = &[
            ("defaults", true, 0, 0),
            ("ro", true, 0x1, attr::RDONLY),
            ("rw", false, 0x1, attr::RDONLY),
            ("nosuid", true, 0x2, attr::NOSUID),
            ("suid", false, 0x2, attr::NOSUID),
            ("nodev", true, 0x4, attr::NODEV),
            ("dev", false, 0x4, attr::NODEV),
            ("noexec", true, 0x8, attr::NOEXEC),
            ("exec", false, 0x8, attr::NOEXEC),
            ("sync", true, 0x10, 0),
            ("async", false, 0x10, 0),
            ("mand", true, 0x40, 0),
            ("nomand", false, 0x40, 0),
            ("dirsync", true, 0x80, 0),
            ("noatime", true, 0x400, attr::NOATIME),
            ("atime", false, 0x400, attr::NOATIME),
            ("nodiratime", true, 0x800, attr::NODIRATIME),
            ("diratime", false, 0x800, attr::NODIRATIME),
            ("relatime", true, 1 << 21, 0),
            ("norelatime", false, 1 << 21, 0),
            ("strictatime", true, 1 << 24, attr::STRICTATIME),
            ("nostrictatime", false, 1 << 24, attr::STRICTATIME),
        ];
        if let Some((_, set, bit, attribute)) = WORDS.iter().find(|(known, ..)| *known == word) {
            if *set {
                self.flags |= bit;
                self.attrs |= attribute;
            } else {
                self.flags &= !bit;
                self.attrs &= !attribute;
            }
            return true;
        }
        let propagation = match word {
            "bind" | "rbind" => {
                self.bind = Some(word == "rbind");
                self.flags |= if word == "rbind" { 0x1000 | MS_REC } else { 0x1000 };
                return true;
            }
            "remount" => {
                (self.remount, self.flags) = (true, self.flags | 0x20);
                return true;
            }
            "private" => MS_PRIVATE,
            "rprivate" => MS_PRIVATE | MS_REC,
            "slave" => MS_SLAVE,
            "rslave" => MS_SLAVE | MS_REC,
            "shared" => MS_SHARED,
            "rshared" => MS_SHARED | MS_REC,
            "unbindable" => MS_UNBINDABLE,
            "runbindable" => MS_UNBINDABLE | MS_REC,
            _ => return false,
        };
        self.propagation = propagation;
        true
    }

    /// The mount is asked to change one that is there, which no volume has.
    pub(super) fn is_remount(&self) -> bool {
        self.remount
    }

    /// What the file system is configured with, in order: its own flags, then the parameters.
    pub(super) fn configuration(&self) -> Vec<(String, Option<String>)> {
        let own = [("ro", 0x1), ("sync", 0x10), ("dirsync", 0x80)];
        let own = own.iter().filter(|(_, bit)| self.flags & bit != 0).map(|(word, _)| ((*word).to_owned(), None));
        own.chain(self.parameters.iter().cloned()).collect()
    }

    /// The name to be looked up before a network file system is mounted.
    ///
    /// # Errors
    /// The text of what is wrong with a share's address.
    pub(super) fn host(&self) -> Result<Option<String>, String> {
        if !matches!(self.kind.as_str(), "nfs" | "cifs") {
            return Ok(None);
        }
        let address = self.parameters.iter().find(|(key, value)| key == "addr" && value.is_some());
        if let Some((_, Some(address))) = address
            && !address.is_empty()
            && !matches!(address.parse(), Ok(IpAddr::V4(_)))
        {
            return Ok(Some(address.clone()));
        }
        if self.kind != "cifs" {
            return Ok(None);
        }
        let share = Share::parse(&self.device)?;
        Ok(Some(share.host).filter(|host| !host.is_empty() && host.parse::<IpAddr>().is_err()))
    }

    /// Put the address in the place of the name that [`Spec::host`] gave.
    pub(super) fn resolved(&mut self, host: &str, address: IpAddr) {
        let text = address.to_string();
        for (key, value) in &mut self.parameters {
            if key == "addr" && value.as_deref() == Some(host) {
                *value = Some(text);
                return;
            }
        }
        let shown = if address.is_ipv6() { format!("[{text}]") } else { text };
        self.device = self.device.replacen(host, &shown, 1);
    }

    /// What was tried, as Docker's error texts say it; passwords are covered.
    pub(super) fn attempt(&self, target: &str) -> String {
        // Who logs in is no part of where to.
        let device = match (self.device.strip_prefix("//"), self.device.find('@')) {
            (Some(_), Some(at)) if !self.device[2..at].contains('/') => format!("//{}", &self.device[at + 1..]),
            _ => self.device.clone(),
        };
        let mut text = format!("mount {device}:{target}");
        if self.flags != 0 {
            text += &format!(", flags: {:#x}", self.flags);
        }
        if !self.data.is_empty() {
            let mut covered = false;
            let words = self.data.iter().map(|word| match word.split_once('=') {
                Some((key, _)) => {
                    covered = is_secret(key);
                    if covered { format!("{key}=********") } else { word.clone() }
                }
                // What follows a comma in a password.
                None if covered => "********".to_owned(),
                None => word.clone(),
            });
            text += &format!(", data: {}", words.collect::<Vec<_>>().join(","));
        }
        text
    }
}

/// Whether an option's value is for nobody's eyes.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pass", "secret", "key"].iter().any(|word| key.contains(word))
}

/// The address of a share, `//HOST[:PORT]/PATH`, read as the URL Docker takes it for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Share {
    host: String,
    port: bool,
}

impl Share {
    fn parse(device: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("error parsing mount device url: parse {device:?}: {why}");
        if device.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err(wrong("net/url: invalid control character in URL".into()));
        }
        let rest = match device.split_once(':') {
            Some(("", _)) => return Err(wrong("missing protocol scheme".into())),
            Some((scheme, rest))
                if scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                    && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) =>
            {
                rest
            }
            _ => device,
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        for text in [authority, path] {
            for (at, _) in text.match_indices('%') {
                let pair = &text.as_bytes()[at + 1..];
                if !pair.get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
                    let shown: String = String::from_utf8_lossy(&pair[..pair.len().min(2)]).into_owned();
                    return Err(wrong(format!("invalid URL escape {:?}", format!("%{shown}"))));
                }
            }
        }
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = match host.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
            Some((host, after)) => (host, after.strip_prefix(':').unwrap_or_default()),
            None => host.split_once(':').unwrap_or((host, "")),
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong(format!("invalid port {:?} after host", format!(":{port}"))));
        }
        Ok(Self { host: host.to_owned(), port: !port.is_empty() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(list: &[(&str, &str)]) -> Given {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_dockerd_refuses() {
        for (options, text) in [
            (&[("foo", "x")][..], "invalid option: \"foo\""),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("device", "tmpfs")], "missing required option: \"type\""),
            (&[("o", "size=1m")], "missing required option: \"device\""),
            (&[("o", "x"), ("device", "d")], "missing required option: \"type\""),
            (&[("size", "abc")], "invalid size: 'abc'"),
            (&[("size", "-1")], "invalid size: '-1'"),
            (&[("size", "1m")], "quota size requested but no quota support"),
            (
                &[("type", "cifs"), ("device", "//h:445/x")],
                "port not allowed in CIFS device URL, include 'port' in 'o='",
            ),
            (
                &[("type", "cifs"), ("device", "://h/x")],
                "error parsing mount device url: parse \"://h/x\": missing protocol scheme",
            ),
            (
                &[("type", "cifs"), ("device", "%zz")],
                "error parsing mount device url: parse \"%zz\": invalid URL escape \"%zz\"",
            ),
        ] {
            assert_eq!(check(&given(options), false).unwrap_err(), text, "{options:?}");
        }
        for options in [
            &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")][..],
            &[("type", ""), ("device", ""), ("o", "")],
            &[("size", "0")],
            &[("type", "cifs"), ("device", "//host/share")],
        ] {
            assert_eq!(check(&given(options), false), Ok(()), "{options:?}");
        }
        assert_eq!(check(&given(&[("size", "1g")]), true), Ok(()));
        assert!(check(&given(&[("size", "1g"), ("type", "nfs"), ("device", ":/x")]), true).is_err());
    }

    #[test]
    fn a_comma_is_never_part_of_a_value() {
        let spec = Spec::parse(&given(&[
            ("type", "nfs"),
            ("device", ":/a,ro,dev=/dev/sda"),
            ("o", "addr=10.0.0.1,,rw,nosuid,vers=4,soft,context=a=b"),
        ]));
        assert_eq!(spec.device, ":/a,ro,dev=/dev/sda", "the device is one value, whatever is in it");
        let words: Vec<_> = spec.parameters.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(words, [("addr", Some("10.0.0.1")), ("vers", Some("4")), ("soft", None), ("context", Some("a=b"))]);
        assert_eq!((spec.attrs, spec.bind), (attr::NOSUID, None));
    }

    #[test]
    fn flags_and_their_opposites() {
        let spec = Spec::parse(&given(&[("type", "none"), ("device", "/x"), ("o", "rbind,ro,noexec,exec,rslave")]));
        assert_eq!((spec.bind, spec.attrs, spec.propagation), (Some(true), attr::RDONLY, MS_SLAVE | MS_REC));
        assert_eq!(spec.attempt("/t"), "mount /x:/t, flags: 0x5001");
        let spec = Spec::parse(&given(&[("type", "ext4"), ("device", "/d"), ("o", "ro,sync,password=a,x=1")]));
        let set = |key: &str| (key.to_owned(), None);
        assert_eq!(spec.configuration()[..2], [set("ro"), set("sync")]);
        assert_eq!(spec.attempt("/t"), "mount /d:/t, flags: 0x11, data: password=********,x=1");
    }

    #[test]
    fn names_of_servers_are_found_and_replaced() {
        let nfs = |o: &str| Spec::parse(&given(&[("type", "nfs"), ("device", ":/x"), ("o", o)]));
        assert_eq!(nfs("addr=10.0.0.1,rw").host(), Ok(None));
        let mut spec = nfs("rw,addr=server");
        assert_eq!(spec.host(), Ok(Some("server".into())));
        spec.resolved("server", "10.0.0.2".parse().unwrap());
        assert_eq!(spec.parameters, [("addr".to_owned(), Some("10.0.0.2".to_owned()))]);

        let cifs = |device: &str| Spec::parse(&given(&[("type", "cifs"), ("device", device), ("o", "user=u")]));
        let mut spec = cifs("//server/share");
        assert_eq!(spec.host(), Ok(Some("server".into())));
        spec.resolved("server", "10.0.0.2".parse().unwrap());
        assert_eq!(spec.device, "//10.0.0.2/share");
        assert_eq!(cifs("//10.0.0.2/share").host(), Ok(None));
        assert_eq!(Spec::parse(&given(&[("type", "tmpfs"), ("device", "x"), ("o", "addr=h")])).host(), Ok(None));
    }

    #[test]
    fn what_needs_a_mount() {
        assert!(is_mounted(&given(&[("type", "tmpfs"), ("device", "tmpfs")])));
        assert!(!is_mounted(&given(&[("type", ""), ("device", ""), ("o", "")])));
        assert!(!is_mounted(&given(&[("size", "1g")])));
    }
}
