//! Samples of what a container uses, in the form of Docker's stats document. A stream samples once a
//! second and carries the sample before in each document. Called by the facade.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use docker_types::container::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, ThrottlingData,
};

use super::Container;
use crate::AnyStream;
use crate::clock;
use crate::engine::Inner;
use crate::error::Result;

const PERIOD: Duration = Duration::from_secs(1);

/// Documents: one when not streaming (two samples a second apart, unless `one_shot`), else one a
/// second until the container is removed. A container that does not run gives zeros.
pub(crate) fn stream(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    stream: bool,
    one_shot: bool,
) -> AnyStream<Result<ContainerStats>> {
    let sampler = Sampler { inner: Arc::clone(inner), container: Arc::clone(container), last: None };
    if !stream {
        return Box::pin(futures_util::stream::once(async move {
            let mut sampler = sampler;
            if !one_shot && sampler.container.pid().is_some() {
                sampler.sample().await?;
                tokio::time::sleep(PERIOD).await;
            }
            sampler.sample().await
        }));
    }
    Box::pin(futures_util::stream::unfold((sampler, None), |(mut sampler, next)| async move {
        if let Some(next) = next {
            tokio::time::sleep_until(next).await;
        }
        if sampler.container.outcome.borrow().removed {
            return None;
        }
        let next = tokio::time::Instant::now() + PERIOD;
        let document = sampler.sample().await;
        Some((document, (sampler, Some(next))))
    }))
}

struct Sampler {
    inner: Arc<Inner>,
    container: Arc<Container>,
    /// Time and processor use of the sample before.
    last: Option<(String, CpuStats)>,
}

impl Sampler {
    async fn sample(&mut self) -> Result<ContainerStats> {
        let record = self.container.record();
        let pid = self.container.pid();
        let mut document = ContainerStats {
            name: format!("/{}", record.name),
            id: record.id.clone(),
            os_type: "linux".into(),
            read: docker_types::time::ZERO.into(),
            preread: docker_types::time::ZERO.into(),
            ..ContainerStats::default()
        };
        let Some(pid) = pid else { return Ok(document) };
        let group = self.inner.cgroup(&record)?;
        let own_network = record.host_config.network_mode != "host";
        let (stats, interfaces, system, memory, cpus) = {
            let cpus = self.inner.facts.cpus;
            self.inner
                .blocking("sample a container", move || {
                    let stats = group.stats()?;
                    let interfaces = if own_network {
                        // The container may end while we look.
                        network::read_stats(pid.unsigned_abs()).unwrap_or_default()
                    } else {
                        Vec::new()
                    };
                    Ok((stats, interfaces, system_cpu(), host_memory(), cpus))
                })
                .await?
        };
        document.read = clock::rfc3339(clock::now_ns());
        document.pids_stats = PidsStats { current: stats.pids.current, limit: stats.pids.limit.unwrap_or(0) };
        let entries = |list: Vec<cgroup::BlkioEntry>| {
            Some(
                list.into_iter()
                    .map(|e| BlkioEntry { major: e.major, minor: e.minor, op: e.op, value: e.value })
                    .collect::<Vec<_>>(),
            )
        };
        document.blkio_stats = BlkioStats {
            io_service_bytes_recursive: entries(stats.blkio.service_bytes),
            io_serviced_recursive: entries(stats.blkio.serviced),
            io_queue_recursive: Some(Vec::new()),
            io_service_time_recursive: Some(Vec::new()),
            io_wait_time_recursive: Some(Vec::new()),
            io_merged_recursive: Some(Vec::new()),
            io_time_recursive: Some(Vec::new()),
            sectors_recursive: Some(Vec::new()),
        };
        document.cpu_stats = CpuStats {
            cpu_usage: CpuUsage {
                total_usage: stats.cpu.total_ns,
                percpu_usage: stats.cpu.percpu_ns,
                usage_in_kernelmode: stats.cpu.system_ns,
                usage_in_usermode: stats.cpu.user_ns,
            },
            system_cpu_usage: system,
            online_cpus: cpus,
            throttling_data: ThrottlingData {
                periods: stats.cpu.periods,
                throttled_periods: stats.cpu.throttled_periods,
                throttled_time: stats.cpu.throttled_ns,
            },
        };
        if let Some(m) = stats.memory {
            document.memory_stats = MemoryStats {
                usage: m.usage,
                max_usage: m.max_usage.unwrap_or(0),
                failcnt: m.failcnt.unwrap_or(0),
                // No limit is the host's memory.
                limit: m.limit.min(memory),
                stats: m.docker().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
            };
        }
        document.networks = interfaces
            .into_iter()
            .filter(|i| i.name != "lo")
            .map(|i| {
                let place = record.state.endpoints.iter().find(|endpoint| endpoint.interface == i.name);
                let rate = place.map(|endpoint| endpoint.rate).unwrap_or_default();
                let stats = NetworkStats {
                    rx_bytes: i.rx_bytes,
                    rx_packets: i.rx_packets,
                    rx_errors: i.rx_errors,
                    rx_dropped: i.rx_dropped,
                    tx_bytes: i.tx_bytes,
                    tx_packets: i.tx_packets,
                    tx_errors: i.tx_errors,
                    tx_dropped: i.tx_dropped,
                    rx_rate_limit: rate.ingress.unwrap_or(0),
                    tx_rate_limit: rate.egress.unwrap_or(0),
                };
                (i.name, stats)
            })
            .collect();
        let now = (document.read.clone(), document.cpu_stats.clone());
        if let Some((read, cpu)) = self.last.replace(now) {
            document.preread = read;
            document.precpu_stats = cpu;
        }
        Ok(document)
    }
}

/// Nanoseconds all processors have spent, idle time included (proc_stat(5)).
fn system_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(7)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    ticks.saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

/// Bytes of memory of the host.
pub(crate) fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
