//! Changing a container's limits, restart policy and name. Called by the facade.

use std::sync::Arc;

use docker_types::container::{ContainerUpdateBody, ContainerUpdateResponse, HostConfig};
use state::Durability;
use types::ContainerName;

use super::record::Phase;
use super::{Container, validate};
use crate::engine::Inner;
use crate::error::{Result, fail};
use crate::plan;

/// Apply what is set in `body`; zero and empty leave a value alone.
///
/// # Errors
/// Invalid for limits that make no sense together, or the kernel's refusal.
pub(crate) async fn update(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    body: ContainerUpdateBody,
) -> Result<ContainerUpdateResponse> {
    let resources = body.resources();
    let mut warnings = validate::resources(&resources, &inner.facts, true)?;
    let mut changed = plan::cgroup_resources(&resources, None)?;
    warnings.extend(changed.discard_unsupported(&inner.support).into_iter().map(str::to_owned));
    let lifecycle = container.lifecycle.lock().await;
    let record = container.record();
    let cannot = |why: &str| fail!(Conflict, "Cannot update container {}: {why}", record.id);
    if matches!(record.state.phase, Phase::Removing | Phase::Dead) || container.live().removing {
        return Err(cannot("container is marked for removal and cannot be \"update\""));
    }
    let mut next = record.host_config.clone();
    merge(&mut next, &body).map_err(|why| cannot(&why))?;
    if !body.restart_policy.name.is_empty() {
        if record.host_config.auto_remove {
            return Err(cannot("Restart policy cannot be updated because AutoRemove is enabled for the container"));
        }
        next.restart_policy = body.restart_policy.clone();
    }
    validate::host_config(&next, &Default::default(), &inner.facts)?;

    if record.state.phase.is_live() {
        if changed.memory.is_some() && inner.support.swap {
            // Both limits together, in whichever order the kernel allows.
            changed.memory_swap = (next.memory_swap != 0).then_some(next.memory_swap);
        }
        let group = inner.cgroup(&record)?;
        inner
            .blocking("change a container's limits", move || Ok(group.apply(&changed)?))
            .await
            .map_err(|e| fail!(Internal, "Cannot update container {}: {e}", record.id))?;
    }
    container.change(|r| r.host_config = next);
    inner.persist(container, Durability::Process).await?;
    drop(lifecycle);
    if let Some(rate) = &body.net_rate {
        let network = Some(rate.network.as_str()).filter(|name| !name.is_empty());
        crate::network::set_rate(inner, container, network, rate.ingress.as_deref(), rate.egress.as_deref()).await?;
    }
    inner.publish_container(container, "update", []);
    Ok(ContainerUpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings) })
}

/// Put the set values over `host`.
fn merge(host: &mut HostConfig, body: &ContainerUpdateBody) -> std::result::Result<(), String> {
    if body.nano_cpus > 0 && (host.cpu_period > 0 || host.cpu_quota > 0) {
        return Err(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period or Quota has already been set".into()
        );
    }
    if (body.cpu_period > 0 || body.cpu_quota > 0) && host.nano_cpus > 0 {
        return Err(
            "Conflicting options: CPU Period or Quota cannot be updated as NanoCPUs has already been set".into()
        );
    }
    if body.memory != 0 {
        if body.memory > host.memory_swap && host.memory_swap > 0 && body.memory_swap == 0 {
            return Err("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time".into());
        }
        host.memory = body.memory;
    }
    if body.memory_swap != 0 {
        host.memory_swap = body.memory_swap;
    }
    if body.memory_reservation != 0 {
        host.memory_reservation = body.memory_reservation;
    }
    for (mine, theirs) in [
        (&mut host.cpu_shares, body.cpu_shares),
        (&mut host.nano_cpus, body.nano_cpus),
        (&mut host.cpu_period, body.cpu_period),
        (&mut host.cpu_quota, body.cpu_quota),
    ] {
        if theirs != 0 {
            *mine = theirs;
        }
    }
    for (mine, theirs) in [(&mut host.cpuset_cpus, &body.cpuset_cpus), (&mut host.cpuset_mems, &body.cpuset_mems)] {
        if !theirs.is_empty() {
            mine.clone_from(theirs);
        }
    }
    if body.blkio_weight != 0 {
        host.blkio_weight = body.blkio_weight;
    }
    if let Some(limit) = body.pids_limit {
        host.pids_limit = (limit > 0).then_some(limit);
    }
    for (mine, theirs) in [
        (&mut host.blkio_device_read_bps, &body.blkio_device_read_bps),
        (&mut host.blkio_device_write_bps, &body.blkio_device_write_bps),
        (&mut host.blkio_device_read_iops, &body.blkio_device_read_iops),
        (&mut host.blkio_device_write_iops, &body.blkio_device_write_iops),
    ] {
        if theirs.as_ref().is_some_and(|l| !l.is_empty()) {
            mine.clone_from(theirs);
        }
    }
    if body.blkio_weight_device.as_ref().is_some_and(|l| !l.is_empty()) {
        host.blkio_weight_device.clone_from(&body.blkio_weight_device);
    }
    Ok(())
}

/// Give the container another name.
///
/// # Errors
/// Invalid for a name that is not allowed or the same; Conflict for one that is taken.
pub(crate) async fn rename(inner: &Arc<Inner>, container: &Arc<Container>, new: &str) -> Result<()> {
    if new.is_empty() {
        return Err(fail!(Invalid, "Neither old nor new names may be empty"));
    }
    let shown = if new.starts_with('/') { new.to_owned() } else { format!("/{new}") };
    let name = new
        .parse::<ContainerName>()
        .map_err(|_| {
            fail!(
                Invalid,
                "Error when allocating new name: Invalid container name ({shown}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        })?
        .as_str()
        .to_owned();
    let _lifecycle = container.lifecycle.lock().await;
    let old = container.record().name.clone();
    if old == name {
        return Err(fail!(Invalid, "Renaming a container with the same name as its current name"));
    }
    if container.live().removing {
        return Err(fail!(Conflict, "container {} is being removed", container.id()));
    }
    inner.containers.reserve_name(&name, container.id()).map_err(|e| e.context("Error when allocating new name"))?;
    container.change(|r| r.name.clone_from(&name));
    if let Err(error) = inner.persist(container, Durability::Process).await {
        container.change(|r| r.name.clone_from(&old));
        inner.containers.release_name(&name, container.id());
        return Err(error);
    }
    inner.containers.release_name(&old, container.id());
    inner.publish_container(container, "rename", [("oldName", format!("/{old}"))]);
    crate::network::renamed(inner, container).await;
    Ok(())
}
