//! Removing what is kept: which, and how it goes. What a build that runs has stays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use types::DiffId;

use super::{Filters, Policy, Usage, kind, list};
use crate::error::{Error, Result};
use crate::solve::Shared;
use crate::tree;

/// Removes what a policy says; gives it, with the bytes that came free by it.
///
/// # Errors
/// Filters that make no sense; those of the database or the disk.
pub(crate) async fn prune(shared: &Arc<Shared>, policy: &Policy) -> Result<Vec<Usage>> {
    let filters = Filters::read(&policy.filters)?;
    let (reading, policy) = (Arc::clone(shared), policy.clone());
    let chosen = tokio::task::spawn_blocking(move || {
        let (all, sizes) = list(&reading);
        let images = reading.host.layers_of_images();
        let free = free(reading.host.work()).map_or(0, |(_, free)| free);
        choose(all, &sizes, &images, &policy, &filters, free, tree::now_ns())
    });
    let chosen = chosen.await.map_err(|e| Error::io("reading what is kept", e))?;
    if chosen.is_empty() {
        return Ok(chosen);
    }
    let of = |kind: &str| chosen.iter().filter(|usage| usage.kind == kind).map(|usage| usage.id.clone()).collect();
    let (caches, files): (Vec<String>, Vec<String>) = (of(kind::CACHE), of(kind::LOCAL));
    let others = chosen.iter().filter(|usage| usage.kind != kind::CACHE && usage.kind != kind::LOCAL);
    let others: Vec<String> = others.map(|usage| usage.id.clone()).collect();
    let mut gone: HashSet<String> = HashSet::new();
    if !others.is_empty() {
        gone.extend(shared.records.forget(&*shared.host, others).await?);
        shared.host.collect().await?;
    }
    let removing = Arc::clone(shared);
    let removed = tokio::task::spawn_blocking(move || {
        let mut gone = removing.caches.remove(&caches);
        gone.extend(removing.pool.remove(&files));
        gone
    });
    gone.extend(removed.await.map_err(|e| Error::io("removing what is kept", e))?);
    // Somebody may have begun to use one meanwhile.
    Ok(chosen.into_iter().filter(|usage| gone.contains(&usage.id)).collect())
}

/// Bytes of the disk, and those of them that are free.
pub(super) fn free(path: &std::path::Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some((disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize))
}

/// Layers as those that are left need them.
struct Layers<'a> {
    sizes: &'a HashMap<DiffId, u64>,
    images: &'a HashSet<DiffId>,
    users: HashMap<DiffId, usize>,
}

impl<'a> Layers<'a> {
    fn of(all: &[Usage], sizes: &'a HashMap<DiffId, u64>, images: &'a HashSet<DiffId>) -> Self {
        let mut users = HashMap::new();
        all.iter().flat_map(distinct).for_each(|layer| *users.entry(layer).or_default() += 1);
        Self { sizes, images, users }
    }

    /// Bytes that come free when this is gone as well.
    fn without(&mut self, usage: &Usage) -> u64 {
        if usage.layers.is_empty() {
            return usage.size;
        }
        let mut bytes = 0;
        for layer in distinct(usage) {
            if let Some(left) = self.users.get_mut(&layer) {
                *left = left.saturating_sub(1);
                if *left == 0 && !self.images.contains(&layer) {
                    bytes += self.sizes.get(&layer).copied().unwrap_or(0);
                }
            }
        }
        bytes
    }
}

fn distinct(usage: &Usage) -> HashSet<DiffId> {
    usage.layers.iter().flatten().copied().collect()
}

/// What goes, with what comes free by each.
fn choose(
    all: Vec<Usage>,
    sizes: &HashMap<DiffId, u64>,
    images: &HashSet<DiffId>,
    policy: &Policy,
    filters: &Filters,
    free: u64,
    now_ns: i64,
) -> Vec<Usage> {
    // What images have is no cache's to give back.
    let mut total: u64 = all.iter().filter(|usage| !usage.shared).map(|usage| usage.size).sum();
    let target = if policy.limits.any() {
        let Some(target) = policy.limits.target(total, free) else { return Vec::new() };
        Some(target)
    } else {
        None
    };
    let before = now_ns.saturating_sub(i64::try_from(policy.keep_ns).unwrap_or(i64::MAX));
    let used = last_used(&all);
    let mut layers = Layers::of(&all, sizes, images);
    let spared = |usage: &Usage| {
        let quiet = usage.shared || usage.kind == kind::INTERNAL || usage.kind == kind::FRONTEND;
        usage.in_use || (quiet && !policy.all) || (policy.keep_ns > 0 && usage.used_ns > before)
    };
    let mut chosen: Vec<(i64, Usage)> = all
        .into_iter()
        .zip(used)
        .filter(|(usage, _)| !spared(usage) && filters.pass(usage))
        .map(|(u, ns)| (ns, u))
        .collect();
    // Longest unused first; what was made of something before that, without which it would give nothing back.
    let depth = |usage: &Usage| usage.layers.iter().map(Vec::len).max().unwrap_or(0);
    chosen.sort_by(|(a_ns, a), (b_ns, b)| (a_ns, depth(b), &a.id).cmp(&(b_ns, depth(a), &b.id)));
    let mut gone = Vec::new();
    for (_, mut usage) in chosen {
        if target.is_some_and(|target| total <= target) {
            break;
        }
        usage.size = layers.without(&usage);
        total = total.saturating_sub(usage.size);
        gone.push(usage);
    }
    gone
}

/// When each was last used, itself or what was made of it.
fn last_used(all: &[Usage]) -> Vec<i64> {
    let by_id: HashMap<&str, usize> = all.iter().enumerate().map(|(index, usage)| (usage.id.as_str(), index)).collect();
    let mut used: Vec<i64> = all.iter().map(|usage| usage.used_ns).collect();
    // Deepest first, so that each has what its own have when it passes that on.
    let mut order: Vec<usize> = (0..all.len()).collect();
    let depth = |usage: &Usage| usage.layers.iter().map(Vec::len).max().unwrap_or(0);
    order.sort_by_key(|index| std::cmp::Reverse(all.get(*index).map_or(0, depth)));
    for index in order {
        let (Some(usage), Some(ns)) = (all.get(index), used.get(index).copied()) else { continue };
        for parent in usage.parents.iter().filter_map(|parent| by_id.get(parent.as_str())) {
            if let Some(parent) = used.get_mut(*parent) {
                *parent = ns.max(*parent);
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Limits;

    fn layer(number: u8) -> DiffId {
        format!("sha256:{}", format!("{number:02x}").repeat(32)).parse().unwrap()
    }

    fn result(id: &str, layers: &[u8], used_ns: i64, parent: Option<&str>) -> Usage {
        Usage {
            id: id.into(),
            kind: kind::REGULAR.into(),
            size: 10,
            used_ns,
            parents: parent.map(str::to_owned).into_iter().collect(),
            layers: vec![layers.iter().map(|number| layer(*number)).collect()],
            ..Usage::default()
        }
    }

    fn chosen(all: Vec<Usage>, images: &[u8], policy: &Policy) -> Vec<(String, u64)> {
        let sizes: HashMap<_, _> = (0..20).map(|number| (layer(number), 10)).collect();
        let images = images.iter().map(|number| layer(*number)).collect();
        let filters = Filters::read(&policy.filters).unwrap();
        let gone = choose(all, &sizes, &images, policy, &filters, 1 << 40, 1000);
        gone.into_iter().map(|usage| (usage.id, usage.size)).collect()
    }

    fn all() -> Vec<Usage> {
        vec![
            result("base", &[1], 100, None),
            result("child", &[1, 2], 500, Some("base")),
            result("old", &[3], 200, None),
            Usage { in_use: true, ..result("busy", &[4], 1, None) },
            Usage { shared: true, ..result("image", &[5], 2, None) },
            Usage { id: "cache".into(), kind: kind::CACHE.into(), size: 7, used_ns: 300, ..Usage::default() },
        ]
    }

    #[test]
    fn everything_but_what_is_used_and_what_images_have() {
        let gone = chosen(all(), &[5], &Policy::default());
        let wanted = [("old", 10), ("cache", 7), ("child", 10), ("base", 10)];
        assert_eq!(gone, wanted.map(|(id, size)| (id.to_owned(), size)));
        let gone = chosen(all(), &[5], &Policy { all: true, ..Policy::default() });
        assert_eq!(gone[0], ("image".to_owned(), 0));
        assert_eq!(gone.len(), 5);
    }

    #[test]
    fn down_to_a_size_the_longest_unused_first() {
        // 47 are used, of which 10 are busy.
        let policy = Policy { limits: Limits { max_used: 31, ..Limits::default() }, ..Policy::default() };
        assert_eq!(chosen(all(), &[5], &policy), [("old".to_owned(), 10), ("cache".to_owned(), 7)]);
        let policy = Policy { limits: Limits { max_used: 47, ..Limits::default() }, ..Policy::default() };
        assert_eq!(chosen(all(), &[5], &policy), []);
        // Of a base that goes alone nothing comes back: what was made of it goes first.
        let policy = Policy { limits: Limits { max_used: 25, ..Limits::default() }, ..Policy::default() };
        assert_eq!(chosen(all(), &[5], &policy).last().unwrap().0, "child");
    }

    #[test]
    fn by_age_and_kind() {
        let policy = Policy { keep_ns: 750, ..Policy::default() };
        let ids: Vec<_> = chosen(all(), &[5], &policy).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["old", "base"]);
        let policy = Policy { filters: vec!["type==exec.cachemount".into()], ..Policy::default() };
        assert_eq!(chosen(all(), &[5], &policy), [("cache".to_owned(), 7)]);
    }
}
