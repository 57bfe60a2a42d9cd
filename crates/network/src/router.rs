//! The host as a router: the kernel's forwarding between links, as far as it was switched on for networks.
//!
//! The invariant: what was off is off again when the last engine that needs it has gone. Who switched it on says so in its
//! rules, see `firewall::forwarding`; an engine that finds it switched on by another one says so as well. The rules that
//! keep other links apart are in force before they could reach each other.
//! Owned by `Fabric`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dataplane::Change;
use firewall::Forwarding;
use firewall::forwarding::{Said, said};

use crate::control::Control;
use crate::spec::NetworkSpec;
use crate::{Driver, Result, sysctl};

/// What was switched on, and where to say so.
#[derive(Debug)]
pub(crate) struct Router {
    table: String,
    ours: Mutex<Forwarding>,
}

/// Families that networks need forwarding of.
fn needs<'a>(specs: impl Iterator<Item = &'a NetworkSpec>) -> (bool, bool) {
    let routed = specs.filter(|spec| spec.driver == Driver::Bridge && !spec.internal);
    routed.fold((false, false), |(v4, v6), spec| (v4 || spec.ipv4, v6 || spec.ipv6))
}

fn is_off(name: &str) -> bool {
    sysctl::read(name).is_ok_and(|value| value == "0")
}

impl Router {
    /// Finds out what is to be said of forwarding when these networks come up. `shut`: other links are kept apart where it
    /// is switched on.
    pub(crate) fn open<'a>(
        table: String,
        shut: bool,
        specs: impl Iterator<Item = &'a NetworkSpec>,
    ) -> Result<(Self, Change)> {
        let (v4, v6) = needs(specs);
        let Said { own, others, .. } = match said(&table) {
            // An engine that needs no forwarding needs no rules of the kernel's either.
            Err(_) if !v4 && !v6 => Said::default(),
            other => other?,
        };
        let ours = Forwarding {
            v4: own.v4 || v4 && (others.v4 || is_off(sysctl::IP_FORWARD)),
            v6: own.v6 || v6 && (others.v6 || is_off(sysctl::IPV6_FORWARD)),
            shut,
        };
        Ok((Self { table, ours: Mutex::new(ours) }, Change::SetForwarding(ours)))
    }

    fn ours(&self) -> MutexGuard<'_, Forwarding> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the kernel pass packets on between links, as the network needs it.
    pub(crate) fn forward(&self, spec: &NetworkSpec, control: &Control) -> Result<()> {
        let (v4, v6) = needs(std::iter::once(spec));
        let mut ours = self.ours();
        let mut now = *ours;
        if (v4 && !now.v4) || (v6 && !now.v6) {
            let Said { others, .. } = said(&self.table)?;
            now.v4 |= v4 && (others.v4 || is_off(sysctl::IP_FORWARD));
            now.v6 |= v6 && (others.v6 || is_off(sysctl::IPV6_FORWARD));
        }
        if now != *ours {
            control.change(vec![Change::SetForwarding(now)], &[])?;
            *ours = now;
        }
        if v4 {
            sysctl::set(sysctl::IP_FORWARD, "1")?;
        }
        if v6 {
            sysctl::keep_router_advertisements();
            sysctl::set(sysctl::IPV6_FORWARD, "1")?;
        }
        Ok(())
    }

    /// Switches off what was switched on, unless another engine or somebody else needs it. To be called when the own rules are
    /// gone.
    pub(crate) fn give_back(&self) -> Result<()> {
        let ours = std::mem::take(&mut *self.ours());
        let mut first = Ok(());
        type Needed = fn(&Forwarding) -> bool;
        let families: [(bool, &str, Needed); 2] =
            [(ours.v4, sysctl::IP_FORWARD, |said| said.v4), (ours.v6, sysctl::IPV6_FORWARD, |said| said.v6)];
        for (_, name, needed) in families.into_iter().filter(|(switched, ..)| *switched) {
            let done = (|| {
                let said_now = said(&self.table)?;
                if needed(&said_now.others) {
                    return Ok(());
                }
                if said_now.strangers {
                    tracing::info!(sysctl = name, "left on: others on this host pass packets on as well");
                    return Ok(());
                }
                sysctl::set(name, "0")?;
                // One that began meanwhile has found it switched on; what it says comes before it looks.
                if needed(&said(&self.table)?.others) { sysctl::set(name, "1") } else { Ok(()) }
            })();
            first = first.and(done);
        }
        first
    }
}
