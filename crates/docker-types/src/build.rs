//! The build cache.

use crate::go::go_struct;

go_struct! {
    /// One record of the build cache.
    pub struct BuildCacheRecord {
        "ID" id: String,
        "Parents" / "crate::go::omit" parents: Vec<String>,
        "Type" kind: String,
        "Description" description: String,
        "InUse" in_use: bool,
        "Shared" shared: bool,
        "Size" size: i64,
        "CreatedAt" created_at: String,
        "LastUsedAt" last_used_at: Option<String>,
        "UsageCount" usage_count: i64,
    }
}

go_struct! {
    /// Answer of `POST /build/prune`.
    pub struct BuildPruneReport {
        "CachesDeleted" caches_deleted: Option<Vec<String>>,
        "SpaceReclaimed" space_reclaimed: u64,
    }
}
