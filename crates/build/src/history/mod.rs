//! Builds that were: what was asked for, how it went, what they told. `docker buildx history` shows them.
//!
//! Records are in memory; the engine's database has a copy, and files of ours what is larger: what a build told, and its
//! error with the lines. Both are written beside the builds, and nothing is synced for them: a crash of the host takes the
//! last builds from the history at most.

mod blobs;
mod filter;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit::server::Messages;
use buildkit::wire::control::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, BuildResultInfo, Descriptor,
    SolveRequest, StatusResponse,
};
use buildkit::wire::status;
use prost::Message;
use prost_types::Timestamp;
use tokio::sync::broadcast;
use types::Kind;

use blobs::Blobs;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::progress::{Progress, now};

/// Events that a slow listener may lag behind.
const EVENTS: usize = 256;
/// Most bytes that a record has of each text that a client gave.
const MAX_TEXT: usize = 16 << 10;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// How long.
    pub age: Duration,
    /// How many builds.
    pub entries: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { age: Duration::from_secs(48 * 3600), entries: 50 }
    }
}

/// Builds that were, and those that are.
#[derive(Debug)]
pub(crate) struct History {
    blobs: Arc<Blobs>,
    limits: HistoryLimits,
    builds: Mutex<Builds>,
    events: broadcast::Sender<BuildHistoryEvent>,
}

#[derive(Debug, Default)]
struct Builds {
    /// Those that run, with what they tell.
    active: HashMap<String, (BuildHistoryRecord, Arc<Progress>)>,
    /// Those that ended, by their names.
    ended: BTreeMap<String, BuildHistoryRecord>,
    /// Those of which something is being written.
    unwritten: HashMap<String, tokio::sync::watch::Receiver<bool>>,
}

impl History {
    /// Opens it. `documents` are what [`Host::remember`] was given.
    ///
    /// # Errors
    /// That of the file system.
    pub(crate) fn open(path: &Path, documents: &BTreeMap<String, String>, limits: HistoryLimits) -> Result<Self> {
        let mut ended = BTreeMap::new();
        for (name, document) in documents {
            let bytes = STANDARD.decode(document).ok();
            match bytes.and_then(|bytes| BuildHistoryRecord::decode(bytes.as_slice()).ok()) {
                Some(record) => drop(ended.insert(name.clone(), record)),
                None => tracing::warn!(build = name, "the record of an earlier build cannot be read"),
            }
        }
        let blobs = Blobs::open(path)?;
        blobs.retain(ended.values().flat_map(blobs_of));
        let builds = Mutex::new(Builds { ended, ..Builds::default() });
        Ok(Self { blobs: Arc::new(blobs), limits, builds, events: broadcast::Sender::new(EVENTS) })
    }

    fn lock(&self) -> MutexGuard<'_, Builds> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, kind: BuildHistoryEventType, record: BuildHistoryRecord) {
        // Nobody listening is no failure.
        let _ = self.events.send(BuildHistoryEvent { r#type: kind as i32, record: Some(record) });
    }

    /// A build begins.
    pub(crate) fn begin(&self, request: &SolveRequest, progress: &Arc<Progress>) {
        let exporters = request.exporters.iter().cloned().map(|mut exporter| {
            exporter.attrs = shown(&exporter.attrs);
            exporter
        });
        let record = BuildHistoryRecord {
            r#ref: request.r#ref.clone(),
            frontend: request.frontend.clone(),
            frontend_attrs: shown(&request.frontend_attrs),
            exporters: exporters.collect(),
            created_at: Some(now()),
            ..BuildHistoryRecord::default()
        };
        self.lock().active.insert(request.r#ref.clone(), (record.clone(), Arc::clone(progress)));
        self.tell(BuildHistoryEventType::Started, record);
    }

    /// A build has ended. What is large is written beside it.
    pub(crate) fn end(
        self: &Arc<Self>,
        host: &Arc<dyn Host>,
        name: &str,
        outcome: std::result::Result<&HashMap<String, String>, &Error>,
    ) {
        let (written, unwritten) = tokio::sync::watch::channel(false);
        let (record, progress) = {
            let mut builds = self.lock();
            let Some((mut record, progress)) = builds.active.remove(name) else { return };
            count(&mut record, &progress);
            record.completed_at = Some(now());
            match outcome {
                Ok(response) => {
                    record.exporter_response = shown(response);
                    record.result = result(response);
                }
                Err(error) => {
                    let status = error.to_status();
                    record.error = Some(status::Status {
                        code: status.code() as i32,
                        message: clipped(status.message()),
                        details: Vec::new(),
                    });
                }
            }
            record.generation = 1;
            builds.ended.insert(name.to_owned(), record.clone());
            builds.unwritten.insert(name.to_owned(), unwritten);
            (record, progress)
        };
        self.tell(BuildHistoryEventType::Complete, record);
        let details = outcome.err().map(|error| error.to_status().details().to_vec()).filter(|bytes| !bytes.is_empty());
        let (history, host, name) = (Arc::clone(self), Arc::clone(host), name.to_owned());
        tokio::spawn(async move {
            history.write(&*host, &name, &progress, details).await;
            history.lock().unwritten.remove(&name);
            written.send_replace(true);
            history.expire(&*host).await;
        });
    }

    async fn write(&self, host: &dyn Host, name: &str, progress: &Arc<Progress>, details: Option<Vec<u8>>) {
        let (blobs, progress) = (Arc::clone(&self.blobs), Arc::clone(progress));
        let written = tokio::task::spawn_blocking(move || {
            let logs = blobs.put(blobs::LOGS, &blobs::encode(progress.told()))?;
            let error = details.map(|bytes| blobs.put(blobs::ERROR, &bytes)).transpose()?;
            Ok::<_, Error>((logs, error))
        });
        let written = match written.await {
            Ok(written) => written,
            Err(error) => Err(Error::io("writing was interrupted", error)),
        };
        let document = {
            let mut builds = self.lock();
            // Somebody may have removed it meanwhile.
            let Some(record) = builds.ended.get_mut(name) else { return self.sweep(&builds) };
            match written {
                Ok((logs, error)) => (record.logs, record.external_error) = (Some(logs), error),
                Err(error) => tracing::warn!(build = name, %error, "what a build told is not kept"),
            }
            STANDARD.encode(record.encode_to_vec())
        };
        if let Err(error) = host.remember(vec![(name.to_owned(), document)], Vec::new()).await {
            tracing::warn!(build = name, %error, "the record of a build is not kept");
        }
    }

    /// Forgets what is too old, or too much.
    async fn expire(&self, host: &dyn Host) {
        let gone: Vec<String> = {
            let builds = self.lock();
            let age = i128::try_from(self.limits.age.as_nanos()).unwrap_or(i128::MAX);
            let oldest = nanos(Some(&now())) - age;
            let mut loose: Vec<_> = builds.ended.values().filter(|record| !record.pinned).collect();
            loose.sort_by_key(|record| std::cmp::Reverse(nanos(record.completed_at.as_ref())));
            let gone = loose.into_iter().enumerate().filter(|(index, record)| {
                *index >= self.limits.entries || nanos(record.completed_at.as_ref()) < oldest
            });
            gone.map(|(_, record)| record.r#ref.clone()).collect()
        };
        if let Err(error) = self.forget(host, gone).await {
            tracing::warn!(%error, "records of old builds are not removed");
        }
    }

    async fn forget(&self, host: &dyn Host, names: Vec<String>) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        {
            let mut builds = self.lock();
            for name in &names {
                if let Some(record) = builds.ended.remove(name) {
                    self.tell(BuildHistoryEventType::Deleted, record);
                }
            }
            self.sweep(&builds);
        }
        host.remember(Vec::new(), names).await
    }

    /// Removes files that no record names.
    fn sweep(&self, builds: &Builds) {
        if builds.unwritten.is_empty() {
            self.blobs.retain(builds.ended.values().flat_map(blobs_of));
        }
    }

    /// Pins a record, lets go of it, or removes it.
    ///
    /// # Errors
    /// Not found; a build that runs cannot be removed.
    pub(crate) async fn update(&self, host: &dyn Host, name: &str, pinned: Option<bool>, delete: bool) -> Result<()> {
        // Whoever asks for a record wants all of it.
        let unwritten = self.lock().unwritten.get(name).cloned();
        if let Some(mut unwritten) = unwritten {
            let _ = unwritten.wait_for(|written| *written).await;
        }
        let document = {
            let mut builds = self.lock();
            if builds.active.contains_key(name) {
                let what = if delete { "removed" } else { "changed" };
                return Err(Error::new(Kind::Conflict, format!("build {name} runs: its record cannot be {what} yet")));
            }
            let Some(record) = builds.ended.get_mut(name) else {
                return Err(Error::new(Kind::NotFound, format!("no record of a build {name}")));
            };
            if let Some(pinned) = pinned {
                record.pinned = pinned;
                record.generation += 1;
            }
            STANDARD.encode(record.encode_to_vec())
        };
        if delete {
            return self.forget(host, vec![name.to_owned()]).await;
        }
        if pinned.is_some() {
            host.remember(vec![(name.to_owned(), document)], Vec::new()).await?;
        }
        Ok(())
    }

    /// Records, and with `early_exit` unset what happens from now on.
    ///
    /// # Errors
    /// A filter that makes no sense.
    pub(crate) fn listen(&self, request: &BuildHistoryRequest) -> Result<Messages<BuildHistoryEvent>> {
        let filters = filter::Filters::read(&request.filter)?;
        let wanted = |record: &BuildHistoryRecord| {
            (request.r#ref.is_empty() || record.r#ref == request.r#ref) && filters.pass(record)
        };
        let mut events = Vec::new();
        let later = {
            let builds = self.lock();
            let later = self.events.subscribe();
            for (record, progress) in builds.active.values() {
                let mut record = record.clone();
                count(&mut record, progress);
                events.push((BuildHistoryEventType::Started, record));
            }
            if !request.active_only {
                events.extend(builds.ended.values().cloned().map(|record| (BuildHistoryEventType::Complete, record)));
            }
            later
        };
        events.retain(|(_, record)| wanted(record));
        events.sort_by_key(|(_, record)| std::cmp::Reverse(nanos(record.created_at.as_ref())));
        if let Ok(limit) = usize::try_from(request.limit)
            && limit > 0
        {
            events.truncate(limit);
        }
        let events: Vec<_> = events
            .into_iter()
            .map(|(kind, record)| Ok(BuildHistoryEvent { r#type: kind as i32, record: Some(record) }))
            .collect();
        let first = futures_util::stream::iter(events);
        if request.early_exit {
            return Ok(Box::pin(first));
        }
        let (name, active_only) = (request.r#ref.clone(), request.active_only);
        let later = futures_util::stream::unfold((later, filters), move |(mut later, filters)| {
            let name = name.clone();
            async move {
                loop {
                    match later.recv().await {
                        Ok(event) => {
                            let passes = event.record.as_ref().is_some_and(|record| {
                                (name.is_empty() || record.r#ref == name) && filters.pass(record)
                            });
                            let started = event.r#type == BuildHistoryEventType::Started as i32;
                            if passes && (started || !active_only) {
                                return Some((Ok(event), (later, filters)));
                            }
                        }
                        Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            }
        });
        Ok(Box::pin(futures_util::StreamExt::chain(first, later)))
    }

    /// What a build that ended told; none if nothing is known of it.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub(crate) async fn story(&self, name: &str) -> Result<Option<Vec<StatusResponse>>> {
        let logs = self.lock().ended.get(name).and_then(|record| record.logs.clone());
        let Some(logs) = logs else { return Ok(None) };
        let blobs = Arc::clone(&self.blobs);
        let read = tokio::task::spawn_blocking(move || blobs::decode(&blobs.read(&logs.digest, 0, None)?));
        read.await.map_err(|e| Error::io("reading was interrupted", e))?.map(Some)
    }

    /// The size of something that a record names: a file of ours, or the document of an image that came of the build.
    ///
    /// # Errors
    /// Not found.
    pub(crate) fn size(&self, store: &store::Store, digest: &str) -> Result<u64> {
        match self.named(digest)? {
            Named::Ours => self.blobs.size(digest),
            Named::Result => Ok(document(store, digest)?.len() as u64),
        }
    }

    /// The same from `offset`, at most so many bytes.
    ///
    /// # Errors
    /// Not found.
    pub(crate) fn read(&self, store: &store::Store, digest: &str, offset: u64, most: Option<u64>) -> Result<Vec<u8>> {
        match self.named(digest)? {
            Named::Ours => self.blobs.read(digest, offset, most),
            Named::Result => {
                let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
                let mut bytes = document(store, digest)?;
                bytes.drain(..number(offset).min(bytes.len()));
                bytes.truncate(most.map_or(usize::MAX, number));
                Ok(bytes)
            }
        }
    }

    fn named(&self, digest: &str) -> Result<Named> {
        let builds = self.lock();
        if builds.ended.values().flat_map(blobs_of).any(|named| named == digest) {
            return Ok(Named::Ours);
        }
        let results = builds.ended.values().filter_map(|record| record.result.as_ref());
        if results.flat_map(|result| result.results.values()).any(|named| named.digest == digest) {
            return Ok(Named::Result);
        }
        Err(Error::new(Kind::NotFound, format!("content {digest}: not found")))
    }
}

/// What records name.
enum Named {
    Ours,
    Result,
}

/// A document of an image, as long as the image is there.
fn document(store: &store::Store, digest: &str) -> Result<Vec<u8>> {
    let missing = |e: &dyn std::fmt::Display| Error::new(Kind::NotFound, format!("content {digest}: not found: {e}"));
    let digest = digest.parse().map_err(|e| missing(&e))?;
    store.blobs().read(&digest, store::model::MAX_MANIFEST).map_err(|e| missing(&e))
}

fn blobs_of(record: &BuildHistoryRecord) -> impl Iterator<Item = &str> {
    record.logs.iter().chain(&record.external_error).map(|blob| blob.digest.as_str())
}

fn count(record: &mut BuildHistoryRecord, progress: &Progress) {
    let counts = progress.counts();
    let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    record.num_total_steps = number(counts.steps);
    record.num_completed_steps = number(counts.completed);
    record.num_cached_steps = number(counts.cached);
    record.num_warnings = number(counts.warnings);
}

/// The image that an exporter answered with.
fn result(response: &HashMap<String, String>) -> Option<BuildResultInfo> {
    let text = STANDARD.decode(response.get("containerimage.descriptor")?).ok()?;
    let target: store::model::Descriptor = serde_json::from_slice(&text).ok()?;
    let descriptor = Descriptor {
        media_type: target.media_type.clone(),
        digest: target.digest.to_string(),
        size: i64::try_from(target.size).unwrap_or(i64::MAX),
        annotations: HashMap::new(),
    };
    Some(BuildResultInfo {
        result_deprecated: Some(descriptor.clone()),
        results: HashMap::from([(0, descriptor)]),
        ..BuildResultInfo::default()
    })
}

/// What clients said, without passwords in addresses and not longer than anybody reads.
fn shown(attrs: &HashMap<String, String>) -> HashMap<String, String> {
    attrs.iter().map(|(key, value)| (clipped(key), clipped(&without_password(value)))).collect()
}

fn clipped(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// `scheme://user:password@host` without who it is.
pub(crate) fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = if user.contains(':') { "xxxxx:xxxxx" } else { "xxxxx" };
            format!("{scheme}://{user}@{host}{path}")
        }
        None => text.to_owned(),
    }
}

fn nanos(time: Option<&Timestamp>) -> i128 {
    time.map_or(0, |time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_not_kept() {
        let attrs = HashMap::from([
            ("context".to_owned(), "https://bob:hunter2@example.org/r.git#main:a@b".to_owned()),
            ("x".to_owned(), "ssh://git@example.org/r".to_owned()),
            ("y".to_owned(), "é".repeat(MAX_TEXT)),
        ]);
        let kept = shown(&attrs);
        assert_eq!(kept["context"], "https://xxxxx:xxxxx@example.org/r.git#main:a@b");
        assert_eq!(kept["x"], "ssh://xxxxx@example.org/r");
        assert_eq!(kept["y"].len(), MAX_TEXT);
    }
}
