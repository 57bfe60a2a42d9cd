//! What is told of an output while it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use buildkit::wire::control;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::job::Job;
use crate::progress::{self, Progress};

/// A step that is none of the graph's.
pub(crate) struct Step<'a> {
    job: &'a Job,
    vertex: control::Vertex,
}

impl<'a> Step<'a> {
    /// Tells of its beginning.
    pub(crate) fn begin(job: &'a Job, name: &str) -> Self {
        let digest = format!("sha256:{}", faster_hex::hex_string(&Sha256::digest(name.as_bytes())));
        let vertex = control::Vertex {
            digest,
            name: name.to_owned(),
            started: Some(progress::now()),
            ..control::Vertex::default()
        };
        job.progress.vertex(vertex.clone());
        Self { job, vertex }
    }

    /// What its output is known by.
    pub(crate) fn digest(&self) -> &str {
        &self.vertex.digest
    }

    /// Tells of its end.
    pub(crate) fn end(mut self, error: Option<&Error>) {
        self.vertex.completed = Some(progress::now());
        self.vertex.error = error.map(ToString::to_string).unwrap_or_default();
        self.job.progress.vertex(self.vertex);
    }

    /// Tells of the beginning of a part.
    pub(super) fn part(&self, id: &str) -> Part {
        let status = control::VertexStatus {
            id: id.to_owned(),
            vertex: self.vertex.digest.clone(),
            started: Some(progress::now()),
            timestamp: Some(progress::now()),
            ..control::VertexStatus::default()
        };
        self.job.progress.status(status.clone());
        Part { progress: Arc::clone(&self.job.progress), status, moved: Arc::default() }
    }
}

/// A part of such a step.
pub(super) struct Part {
    progress: Arc<Progress>,
    status: control::VertexStatus,
    moved: Arc<AtomicU64>,
}

impl Part {
    /// Counts bytes, and tells of them now and then.
    pub(super) fn counter(&self) -> impl Fn(u64) + Send + Sync + 'static {
        let (progress, status, moved) = (Arc::clone(&self.progress), self.status.clone(), Arc::clone(&self.moved));
        move |bytes| {
            let before = moved.fetch_add(bytes, Ordering::Relaxed);
            // Every 4 MiB: clients draw a few times a second.
            if (before + bytes) >> 22 != before >> 22 {
                progress.status(control::VertexStatus {
                    current: i64::try_from(before + bytes).unwrap_or(i64::MAX),
                    timestamp: Some(progress::now()),
                    ..status.clone()
                });
            }
        }
    }

    /// Tells of its end.
    pub(super) fn end(mut self) {
        self.status.current = i64::try_from(self.moved.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        self.status.completed = Some(progress::now());
        self.status.timestamp = self.status.completed;
        self.progress.status(self.status);
    }
}
