//! Device access: the rules, where they come from, and their text in v1's files
//! (Documentation/admin-guide/cgroup-v1/devices.rst).
//!
//! Invariant: what matches no rule is denied, on both versions.

use crate::Error;

/// Which device nodes a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both; numbers and access are those of the whole rule all the same.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// Kinds of access, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(pub(crate) u8);

impl Access {
    /// mknod(2)
    pub const MKNOD: Access = Access(1);
    /// Open for reading.
    pub const READ: Access = Access(2);
    /// Open for writing.
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// Reads letters of `rwm` in any order, at least one, none twice.
    pub fn parse(text: &str) -> Option<Access> {
        let mut bits = 0;
        for letter in text.bytes() {
            let bit = match letter {
                b'r' => 2,
                b'w' => 4,
                b'm' => 1,
                _ => return None,
            };
            if bits & bit != 0 {
                return None;
            }
            bits |= bit;
        }
        (bits != 0).then_some(Access(bits))
    }

    pub(crate) fn text(self) -> String {
        [(2, 'r'), (4, 'w'), (1, 'm')].iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, c)| *c).collect()
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Which nodes.
    pub kind: DeviceKind,
    /// Major number, `None` for any.
    pub major: Option<u32>,
    /// Minor number, `None` for any.
    pub minor: Option<u32>,
    /// Which access.
    pub access: Access,
}

/// Most rules in one group; the kernel's own limit on v2 is higher.
const MAX_RULES: usize = 1000;

impl DeviceRule {
    /// An allowing rule.
    pub fn allow(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: Access) -> DeviceRule {
        DeviceRule { allow: true, kind, major, minor, access }
    }

    /// Everything, as for privileged containers.
    pub fn allow_all() -> DeviceRule {
        DeviceRule::allow(DeviceKind::All, None, None, Access::ALL)
    }

    /// Reads the form of `--device-cgroup-rule` and of `devices.allow`: `c 1:3 rwm`, `b *:* m`, `a *:* rwm`.
    pub fn parse_allow(text: &str) -> Option<DeviceRule> {
        let mut fields = text.split(' ');
        let (kind, numbers, access) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() {
            return None;
        }
        let kind = match kind {
            "a" => DeviceKind::All,
            "c" => DeviceKind::Char,
            "b" => DeviceKind::Block,
            _ => return None,
        };
        let number = |s: &str| -> Option<Option<u32>> {
            match s {
                "*" => Some(None),
                s if s.bytes().all(|b| b.is_ascii_digit()) => Some(Some(s.parse().ok()?)),
                _ => None,
            }
        };
        let (major, minor) = numbers.split_once(':')?;
        Some(DeviceRule::allow(kind, number(major)?, number(minor)?, Access::parse(access)?))
    }

    /// What an ordinary container may use, as runc and Docker have it: any mknod, the memory devices, the
    /// terminals, pts and tun.
    pub fn container_defaults() -> Vec<DeviceRule> {
        let node = |major, minor| DeviceRule::allow(DeviceKind::Char, Some(major), minor, Access::ALL);
        vec![
            DeviceRule::allow(DeviceKind::Char, None, None, Access::MKNOD),
            DeviceRule::allow(DeviceKind::Block, None, None, Access::MKNOD),
            node(1, Some(3)),
            node(1, Some(5)),
            node(1, Some(7)),
            node(1, Some(8)),
            node(1, Some(9)),
            node(5, Some(0)),
            node(5, Some(1)),
            node(5, Some(2)),
            node(10, Some(200)),
            node(136, None),
        ]
    }

    /// An entry of `linux.resources.devices` of the OCI runtime specification. No type and type `a` mean every
    /// device and all access, whatever numbers and access are given: v1 kernels have it so and runc follows.
    /// -1 and none are any number.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another type than `a`, `b` and `c`, an access that is not of the letters `rwm`, and
    /// a number out of range.
    pub fn from_spec(
        allow: bool,
        kind: Option<&str>,
        major: Option<i64>,
        minor: Option<i64>,
        access: Option<&str>,
    ) -> Result<DeviceRule, Error> {
        let invalid = |value: String, reason| Error::Invalid { control: "a device rule", value, reason };
        let text = access.unwrap_or_default();
        let access = Access::parse(text)
            .ok_or_else(|| invalid(format!("\"{text}\""), "access is one or more of the letters r, w and m"))?;
        let number = |n: Option<i64>| match n {
            None | Some(-1) => Ok(None),
            Some(n) => u32::try_from(n)
                .map(Some)
                .map_err(|_| invalid(n.to_string(), "a device number is not negative and below 4294967296; -1 is any")),
        };
        let (major, minor) = (number(major)?, number(minor)?);
        let kind = match kind {
            None | Some("" | "a") => return Ok(DeviceRule { allow, ..DeviceRule::allow_all() }),
            Some("b") => DeviceKind::Block,
            Some("c") => DeviceKind::Char,
            Some(other) => return Err(invalid(format!("\"{other}\""), "the type is a, b or c")),
        };
        Ok(DeviceRule { allow, kind, major, minor, access })
    }

    /// What an OCI runtime allows every container after the rules of its configuration, as runc since 1.2 has it:
    /// any mknod, null, zero, full, random, urandom, tty, console, ptmx and pts. (`/dev/net/tun` is no longer
    /// among them.)
    pub fn runtime_defaults() -> Vec<DeviceRule> {
        let mut rules = DeviceRule::container_defaults();
        rules.retain(|r| r.major != Some(10));
        rules
    }

    pub(crate) fn is_everything(&self) -> bool {
        *self == DeviceRule { allow: self.allow, ..DeviceRule::allow_all() }
    }

    /// Line for `devices.allow` or `devices.deny`. The rule is about one kind, or everything: v1 takes the letter
    /// `a` for nothing else.
    pub(crate) fn v1_line(&self) -> String {
        let kind = match self.kind {
            DeviceKind::All => return "a".to_owned(),
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access.text())
    }
}

/// Refuses lists no version takes.
pub(crate) fn check(rules: &[DeviceRule]) -> Result<(), Error> {
    let invalid = |value: String, reason| Error::Invalid { control: "device access", value, reason };
    if rules.len() > MAX_RULES {
        return Err(invalid(format!("{} rules", rules.len()), "at most 1000 rules fit one container"));
    }
    for number in rules.iter().flat_map(|r| [r.major, r.minor]).flatten() {
        if number > i32::MAX as u32 {
            return Err(invalid(number.to_string(), "device numbers are below 2147483648"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_as_text() {
        let rule = DeviceRule::parse_allow("c 1:3 rwm").unwrap();
        assert_eq!(rule.v1_line(), "c 1:3 rwm");
        assert_eq!(DeviceRule::parse_allow("b *:* m").unwrap().v1_line(), "b *:* m");
        assert_eq!(DeviceRule::parse_allow("a *:* rwm").unwrap().v1_line(), "a");
        for bad in [
            "",
            "c",
            "c 1 rwm",
            "x 1:3 rwm",
            "c 1:3 rwx",
            "c 1:3 rr",
            "c 1:3 ",
            "c +1:3 r",
            "c 1:3 rwm x",
            "c 99999999999:1 r",
            "c :1 r\nb *:* rwm",
        ] {
            assert_eq!(DeviceRule::parse_allow(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rules_of_the_specification() {
        let rule = |kind, major, minor, access| DeviceRule::from_spec(true, kind, major, minor, access);
        assert_eq!(rule(Some("c"), Some(1), Some(-1), Some("rm")).unwrap().v1_line(), "c 1:* rm");
        assert_eq!(rule(Some("b"), None, None, Some("w")).unwrap().v1_line(), "b *:* w");
        assert_eq!(rule(None, Some(7), None, Some("r")).unwrap(), DeviceRule::allow_all());
        let deny = DeviceRule::from_spec(false, Some("a"), None, None, Some("rwm")).unwrap();
        assert!(deny.is_everything() && !deny.allow);
        for (kind, major, access) in [
            (Some("p"), None, Some("r")),
            (Some("u"), None, Some("r")),
            (Some("c"), Some(-2), Some("r")),
            (Some("c"), Some(1 << 40), Some("r")),
            (Some("c"), None, Some("")),
            (Some("c"), None, None),
            (Some("c"), None, Some("x")),
        ] {
            assert!(
                matches!(rule(kind, major, None, access), Err(Error::Invalid { .. })),
                "{kind:?} {major:?} {access:?}"
            );
        }
    }

    #[test]
    fn lists_no_kernel_takes_are_refused() {
        assert!(check(&vec![DeviceRule::allow_all(); 1001]).is_err());
        assert!(check(&[DeviceRule::allow(DeviceKind::Char, Some(u32::MAX), None, Access::READ)]).is_err());
        assert!(check(&DeviceRule::container_defaults()).is_ok());
    }
}
