//! Building: clients of BuildKit's protocol are handed to the builder.

use std::sync::Arc;

use build::Builder;
use docker_types::build::BuildCacheRecord;

use crate::Engine;
use crate::clock;
use crate::error::{Result, fail};

impl Engine {
    /// The builder.
    ///
    /// # Errors
    /// Unavailable while the engine opens.
    pub fn builder(&self) -> Result<&Arc<Builder>> {
        self.inner.builder().ok_or_else(|| fail!(Unavailable, "the engine is starting up"))
    }

    /// What is kept of builds.
    ///
    /// # Errors
    /// Unavailable while the engine opens.
    pub(super) async fn build_cache(&self) -> Result<Vec<BuildCacheRecord>> {
        let usage = self.builder()?.usage().await?;
        let record = |usage: build::kept::Usage| BuildCacheRecord {
            id: usage.id,
            parents: usage.parents,
            kind: usage.kind,
            description: usage.description,
            in_use: usage.in_use,
            shared: usage.shared,
            size: i64::try_from(usage.size).unwrap_or(i64::MAX),
            created_at: clock::rfc3339(usage.created_ns),
            last_used_at: Some(clock::rfc3339(usage.used_ns)),
            usage_count: i64::try_from(usage.uses).unwrap_or(i64::MAX),
        };
        Ok(usage.into_iter().map(record).collect())
    }
}
