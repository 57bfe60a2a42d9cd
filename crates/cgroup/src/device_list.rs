//! What a list of device rules comes to: one default and exceptions to it, as a v1 kernel keeps them
//! (security/device_cgroup.c). Rules about the same devices are put together, so that few writes or
//! instructions carry them.
//!
//! Invariant: no two exceptions are about the same devices.

use crate::Error;
use crate::devices::{Access, DeviceKind, DeviceRule};

/// One default and exceptions to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceList {
    /// Allowed unless excepted, else denied unless excepted.
    pub(crate) allow: bool,
    /// About character or block devices, never both.
    pub(crate) exceptions: Vec<DeviceRule>,
}

impl DeviceList {
    /// Applies `rules` in order, everything being denied at first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a rule that takes a part out of a wider exception: a v1 kernel would silently not do
    /// it.
    pub(crate) fn of(rules: &[DeviceRule]) -> Result<DeviceList, Error> {
        let mut list = DeviceList { allow: false, exceptions: Vec::new() };
        for rule in rules {
            if rule.is_everything() {
                list = DeviceList { allow: rule.allow, exceptions: Vec::new() };
                continue;
            }
            let kinds: &[DeviceKind] = match rule.kind {
                DeviceKind::All => &[DeviceKind::Char, DeviceKind::Block],
                DeviceKind::Char => &[DeviceKind::Char],
                DeviceKind::Block => &[DeviceKind::Block],
            };
            for &kind in kinds {
                list.add(DeviceRule { kind, ..*rule })?;
            }
        }
        Ok(list)
    }

    fn add(&mut self, rule: DeviceRule) -> Result<(), Error> {
        let same = |e: &DeviceRule| (e.kind, e.major, e.minor) == (rule.kind, rule.major, rule.minor);
        if rule.allow != self.allow {
            match self.exceptions.iter_mut().find(|e| same(e)) {
                Some(e) => e.access = Access(e.access.0 | rule.access.0),
                None => self.exceptions.push(rule),
            }
            return Ok(());
        }
        // What is excepted from the default and wanted no longer. The kernel takes back nothing but exceptions
        // about exactly these devices; here narrower ones go as well, as the order of the rules has it.
        let covers = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        for e in &mut self.exceptions {
            let meets = e.kind == rule.kind && meet(e.major, rule.major) && meet(e.minor, rule.minor);
            if !meets || e.access.0 & rule.access.0 == 0 {
                continue;
            }
            if !(covers(rule.major, e.major) && covers(rule.minor, e.minor)) {
                return Err(Error::Invalid {
                    control: "a device rule",
                    value: format!("\"{}\" after \"{}\"", rule.v1_line(), e.v1_line()),
                    reason: "cgroup v1 cannot take a part out of a wider rule; name the devices one by one instead",
                });
            }
            e.access = Access(e.access.0 & !rule.access.0);
        }
        self.exceptions.retain(|e| e.access.0 != 0);
        Ok(())
    }

    /// The list as rules, in any order the same but for the first.
    pub(crate) fn rules(&self) -> Vec<DeviceRule> {
        let first = DeviceRule { allow: self.allow, ..DeviceRule::allow_all() };
        std::iter::once(first).chain(self.exceptions.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, text: &str) -> DeviceRule {
        DeviceRule { allow, ..DeviceRule::parse_allow(text).unwrap() }
    }

    fn shown(rules: &[DeviceRule]) -> Result<String, String> {
        let list = DeviceList::of(rules).map_err(|e| e.to_string())?;
        let lines: Vec<String> = list.exceptions.iter().map(DeviceRule::v1_line).collect();
        Ok(format!("{} but {}", if list.allow { "all" } else { "none" }, lines.join(", ")))
    }

    #[test]
    fn rules_add_up() {
        let defaults = [rule(false, "a *:* rwm"), rule(true, "c 1:3 r"), rule(true, "c 1:3 w"), rule(true, "b 8:* r")];
        assert_eq!(shown(&defaults).unwrap(), "none but c 1:3 rw, b 8:* r");
        let taken = [rule(true, "c 1:3 rwm"), rule(false, "c 1:3 w"), rule(true, "c 1:5 r"), rule(false, "c 1:5 rw")];
        assert_eq!(shown(&taken).unwrap(), "none but c 1:3 rm");
        let black = [rule(true, "a *:* rwm"), rule(false, "b *:* m"), rule(false, "c 1:3 w"), rule(true, "c 1:3 w")];
        assert_eq!(shown(&black).unwrap(), "all but b *:* m");
        assert_eq!(shown(&[rule(true, "a 7:* r")]).unwrap(), "none but c 7:* r, b 7:* r");
        assert_eq!(shown(&[rule(true, "c 1:3 r"), rule(false, "a *:* rwm")]).unwrap(), "none but ");
        let wider = [rule(true, "c 1:3 rw"), rule(true, "c 2:3 r"), rule(false, "c 1:* w")];
        assert_eq!(shown(&wider).unwrap(), "none but c 1:3 r, c 2:3 r");
    }

    #[test]
    fn holes_are_refused() {
        for wide in ["c *:* rw", "c 1:* w", "c *:3 w"] {
            let text = shown(&[rule(true, wide), rule(false, "c 1:3 w")]).unwrap_err();
            assert!(text.contains("c 1:3 w") && text.contains(wide), "{text}");
        }
        assert!(shown(&[rule(true, "c *:3 w"), rule(false, "c 1:* w")]).is_err(), "they cross");
        assert!(shown(&[rule(true, "a *:* rwm"), rule(false, "c *:* w"), rule(true, "c 1:3 w")]).is_err());
        // No access in common, another kind, another number: no hole.
        let apart = [rule(true, "c *:* m"), rule(true, "b *:* w"), rule(true, "c 2:* w"), rule(false, "c 1:3 w")];
        assert!(shown(&apart).is_ok());
    }
}
