//! The engine itself: info, version, events, disk usage.

use docker_types::container::ContainerSummary;
use docker_types::event::EventMessage;
use docker_types::system::{DiskUsage, SystemInfo, UsageSummary, Version};

use crate::AnyStream;
use crate::container::list::{self, ListOptions};
use crate::engine::Engine;
use crate::error::{Result, fail};
use crate::events::EventsOptions;
use crate::system;

impl Engine {
    /// Facts about engine and host.
    ///
    /// # Errors
    /// None at present.
    pub async fn info(&self) -> Result<SystemInfo> {
        let inner = std::sync::Arc::clone(&self.inner);
        self.inner.blocking("read facts about the host", move || Ok(system::info(&inner))).await
    }

    /// Versions of the engine and its parts.
    #[must_use]
    pub fn version(&self) -> Version {
        system::version(&self.inner)
    }

    /// What happens, and what happened lately.
    ///
    /// # Errors
    /// Invalid for an unknown filter.
    pub fn events(&self, options: EventsOptions) -> Result<AnyStream<EventMessage>> {
        self.inner.events.subscribe(options)
    }

    /// Disk use by kind; `kinds` of `container`, `image`, `volume`, `build-cache`, empty for all.
    ///
    /// # Errors
    /// Invalid for an unknown kind.
    pub async fn disk_usage(&self, kinds: &[String]) -> Result<DiskUsage> {
        for kind in kinds {
            if !matches!(kind.as_str(), "container" | "image" | "volume" | "build-cache") {
                return Err(fail!(Invalid, "unknown object type: {kind}"));
            }
        }
        let wanted = |kind: &str| kinds.is_empty() || kinds.iter().any(|k| k == kind);
        let mut usage = DiskUsage::default();
        if wanted("container") {
            let options = ListOptions { all: true, size: true, ..ListOptions::default() };
            let containers = list::list(&self.inner, options).await?;
            let running = |c: &&ContainerSummary| matches!(c.state.as_str(), "running" | "paused" | "restarting");
            let total: i64 = containers.iter().map(|c| c.size_rw).sum();
            let active: i64 = containers.iter().filter(running).map(|c| c.size_rw).sum();
            usage.container_usage = Some(UsageSummary {
                active_count: containers.iter().filter(running).count() as i64,
                total_count: containers.len() as i64,
                total_size: total,
                reclaimable: total - active,
                items: containers.clone(),
            });
            usage.containers = Some(containers);
        }
        if wanted("image") {
            let images = self.inner.images.usage(&self.inner)?;
            usage.layers_size = Some(images.total_size);
            usage.images = Some(images.items.clone());
            usage.image_usage = Some(images);
        }
        if wanted("volume") {
            let volumes = self.inner.volumes.usage(&self.inner).await?;
            let size = |v: &docker_types::volume::Volume| v.usage_data.as_ref().map_or(0, |u| u.size.max(0));
            let used = |v: &&docker_types::volume::Volume| v.usage_data.as_ref().is_some_and(|u| u.ref_count > 0);
            usage.volume_usage = Some(UsageSummary {
                active_count: volumes.iter().filter(used).count() as i64,
                total_count: volumes.len() as i64,
                total_size: volumes.iter().map(size).sum(),
                reclaimable: volumes.iter().filter(|v| !used(v)).map(size).sum(),
                items: volumes.clone(),
            });
            usage.volumes = Some(volumes);
        }
        if wanted("build-cache") {
            let records = self.build_cache().await?;
            // What images have counts with them.
            let own = || records.iter().filter(|record| !record.shared);
            usage.build_cache_usage = Some(UsageSummary {
                active_count: records.iter().filter(|record| record.in_use).count() as i64,
                total_count: records.len() as i64,
                total_size: own().map(|record| record.size).sum(),
                reclaimable: own().filter(|record| !record.in_use).map(|record| record.size).sum(),
                items: records.clone(),
            });
            usage.build_cache = Some(records);
        }
        Ok(usage)
    }
}
