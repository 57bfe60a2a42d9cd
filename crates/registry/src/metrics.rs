//! Counters, shown as Prometheus' text format 0.0.4 at `/metrics` of an address of its own.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};

use crate::storage::collect::Collected;

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// See the file's paragraph.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    received: AtomicU64,
    sent: AtomicU64,
    pushed: AtomicU64,
    mounted: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    collections: AtomicU64,
    failed_collections: AtomicU64,
    collected_blobs: AtomicU64,
    collected_bytes: AtomicU64,
}

/// A connection that is counted while it is open.
#[derive(Debug)]
pub(crate) struct Open<'a>(&'a Metrics);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Metrics {
    pub(crate) fn answered(&self, method: &Method, status: StatusCode) {
        let method = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        add(&self.requests[method][class], 1);
    }
    pub(crate) fn received(&self, bytes: u64) {
        add(&self.received, bytes);
    }
    pub(crate) fn sends(&self, bytes: u64) {
        add(&self.sent, bytes);
    }
    pub(crate) fn pushed(&self) {
        add(&self.pushed, 1);
    }
    pub(crate) fn mounted(&self) {
        add(&self.mounted, 1);
    }
    pub(crate) fn refused(&self) {
        add(&self.refused, 1);
    }
    pub(crate) fn opened(&self) -> Open<'_> {
        add(&self.connections, 1);
        Open(self)
    }
    pub(crate) fn collected(&self, done: &Collected) {
        add(&self.collections, 1);
        add(&self.collected_blobs, done.blobs);
        add(&self.collected_bytes, done.bytes);
    }
    pub(crate) fn collection_failed(&self) {
        add(&self.failed_collections, 1);
    }

    /// The page.
    pub(crate) fn text(&self, uploads: usize, quotas: &[(String, u64, u64)]) -> String {
        let mut out = String::with_capacity(4096);
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
            let _ = writeln!(out, "# HELP dhow_registry_{name} {help}\n# TYPE dhow_registry_{name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(out, "dhow_registry_{name}{labels} {value}");
            }
        };
        let mut requests = Vec::new();
        for (method, row) in METHODS.iter().zip(&self.requests) {
            for (class, count) in CLASSES.iter().zip(row) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    requests.push((format!("{{method=\"{method}\",code=\"{class}\"}}"), count));
                }
            }
        }
        family("requests_total", "counter", "Requests answered.", &requests);
        for (name, kind, help, value) in [
            ("received_bytes_total", "counter", "Bytes of blobs and manifests received.", &self.received),
            ("sent_bytes_total", "counter", "Bytes of blobs and manifests that answers announced.", &self.sent),
            ("blobs_pushed_total", "counter", "Uploads finished.", &self.pushed),
            ("blobs_mounted_total", "counter", "Blobs mounted from another repository.", &self.mounted),
            ("connections", "gauge", "Connections open.", &self.connections),
            ("connections_refused_total", "counter", "Connections above the limit of their address.", &self.refused),
            ("collections_total", "counter", "Garbage collections finished.", &self.collections),
            ("collections_failed_total", "counter", "Garbage collections that failed.", &self.failed_collections),
            ("collected_blobs_total", "counter", "Blobs that collections removed.", &self.collected_blobs),
            ("collected_bytes_total", "counter", "Bytes that collections freed.", &self.collected_bytes),
        ] {
            family(name, kind, help, &[(String::new(), value.load(Ordering::Relaxed))]);
        }
        family("uploads", "gauge", "Uploads open.", &[(String::new(), uploads as u64)]);
        // Prefixes are names of repositories: nothing in them needs an escape.
        let label = |prefix: &String| format!("{{prefix=\"{prefix}\"}}");
        let limits: Vec<_> = quotas.iter().map(|(prefix, limit, _)| (label(prefix), *limit)).collect();
        let used: Vec<_> = quotas.iter().map(|(prefix, _, used)| (label(prefix), *used)).collect();
        if !quotas.is_empty() {
            family("quota_limit_bytes", "gauge", "Quota, by prefix; the empty one is the total.", &limits);
            family("quota_used_bytes", "gauge", "Bytes stored that count for the quota.", &used);
        }
        out
    }
}
