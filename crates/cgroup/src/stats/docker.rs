//! Which entries of `memory.stat` Docker's stats document shows. Recorded from its daemon on hosts of both
//! kinds; clients take the set for the version. Called by the engine through [`MemoryStats::docker`].

use super::MemoryStats;

/// Entries of v1's `memory.stat` in Docker's document; each also with `total_` before it, except the limits.
const V1_KEYS: [&str; 14] = [
    "active_anon",
    "active_file",
    "cache",
    "dirty",
    "inactive_anon",
    "inactive_file",
    "mapped_file",
    "pgfault",
    "pgmajfault",
    "pgpgin",
    "pgpgout",
    "rss",
    "rss_huge",
    "unevictable",
];
const V1_MORE: [&str; 3] = ["writeback", "hierarchical_memory_limit", "hierarchical_memsw_limit"];

/// Entries of v2's `memory.stat` in Docker's document.
const V2_KEYS: [&str; 34] = [
    "active_anon",
    "active_file",
    "anon",
    "anon_thp",
    "file",
    "file_dirty",
    "file_mapped",
    "file_writeback",
    "inactive_anon",
    "inactive_file",
    "kernel_stack",
    "pgactivate",
    "pgdeactivate",
    "pgfault",
    "pglazyfree",
    "pglazyfreed",
    "pgmajfault",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "shmem",
    "slab",
    "slab_reclaimable",
    "slab_unreclaimable",
    "sock",
    "thp_collapse_alloc",
    "thp_fault_alloc",
    "unevictable",
    "workingset_activate",
    "workingset_nodereclaim",
    "workingset_refault",
    "workingset_refault_anon",
    "workingset_refault_file",
    "pagetables",
];

impl MemoryStats {
    /// The entries of [`MemoryStats::stats`] in Docker's document.
    pub fn docker(&self) -> impl Iterator<Item = (&str, u64)> {
        // Only v1 has numbers of the group alone beside those with the groups below.
        let v1 = self.stats.iter().any(|(key, _)| key == "total_rss");
        self.stats.iter().map(|(key, value)| (key.as_str(), *value)).filter(move |(key, _)| {
            if v1 {
                let plain = key.strip_prefix("total_").unwrap_or(key);
                V1_KEYS.contains(&plain) || V1_MORE.contains(&plain)
            } else {
                V2_KEYS.contains(key)
            }
        })
    }

    /// Bytes in use without page cache that can go at once: what `docker stats` prints as usage.
    pub fn working_set(&self) -> u64 {
        let of = |key: &str| self.stats.iter().find(|(k, _)| k == key).map(|(_, v)| *v);
        let cache = of("total_inactive_file").or_else(|| of("inactive_file")).unwrap_or(0);
        if cache < self.usage { self.usage - cache } else { self.usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_set_leaves_out_inactive_cache() {
        let stats = vec![("inactive_file".to_owned(), 5), ("total_inactive_file".to_owned(), 30)];
        let memory = MemoryStats { usage: 100, stats, ..MemoryStats::default() };
        assert_eq!(memory.working_set(), 70);
        assert_eq!(MemoryStats { usage: 10, ..memory }.working_set(), 10);
    }

    #[test]
    fn entries_of_either_version() {
        let of = |names: &[&str]| {
            let stats = names.iter().map(|n| ((*n).to_owned(), 1)).collect();
            let memory = MemoryStats { stats, ..MemoryStats::default() };
            memory.docker().map(|(k, _)| k.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of(&["anon", "zswap", "file"]), ["anon", "file"]);
        assert_eq!(
            of(&["rss", "total_rss", "total_swap", "total_writeback", "anon"]),
            ["rss", "total_rss", "total_writeback"]
        );
    }
}
