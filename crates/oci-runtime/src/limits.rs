//! `linux.resources` of the configuration in the terms of the `cgroup` crate.

use cgroup::{DeviceRule, Resources};
use oci::Spec;

use crate::error::Result;

/// The limits of a new container. What no rule allows is denied; what every container may use comes last.
///
/// # Errors
/// A device rule that is none.
pub(crate) fn resources(spec: &Spec) -> Result<Resources> {
    let Some(given) = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()) else {
        return Ok(Resources { devices: Some(device_rules(&[])?), ..Resources::default() });
    };
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    Ok(Resources {
        memory: given.memory.limit,
        memory_reservation: given.memory.reservation,
        memory_swap: given.memory.swap,
        memory_swappiness: given.memory.swappiness,
        oom_kill_disable: given.memory.disable_oom_killer,
        cpu_shares: given.cpu.shares,
        cpu_quota: given.cpu.quota,
        cpu_period: given.cpu.period,
        cpuset_cpus: text(&given.cpu.cpus),
        cpuset_mems: text(&given.cpu.mems),
        pids_limit: given.pids.limit,
        devices: Some(device_rules(&given.devices)?),
        ..Resources::default()
    })
}

fn device_rules(given: &[oci::DeviceRule]) -> Result<Vec<DeviceRule>> {
    let mut rules = Vec::new();
    for rule in given {
        rules.push(DeviceRule::from_spec(
            rule.allow,
            rule.kind.as_deref(),
            rule.major,
            rule.minor,
            rule.access.as_deref(),
        )?);
    }
    rules.extend(DeviceRule::runtime_defaults());
    Ok(rules)
}
