//! What happened, for whoever asks: a ring of the latest events and a live feed.
//!
//! Events are published after the change they tell of is committed, in the order of the changes of
//! one object. Nobody can slow the engine down: a subscriber that falls a thousand events behind
//! loses the oldest ones. Published all over this crate, read through [`crate::Engine::events`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use docker_types::event::{EventActor, EventMessage};
use tokio::sync::broadcast;
use types::Filters;

use crate::AnyStream;
use crate::clock;
use crate::error::{Result, fail};

/// Events kept for `since`, and queued for a slow subscriber.
const KEPT: usize = 1024;

/// Filter keys of `GET /events`.
const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct EventsOptions {
    /// Nanoseconds since the epoch: kept events from then on come first.
    pub since: Option<i64>,
    /// Nanoseconds since the epoch: the stream ends then.
    pub until: Option<i64>,
    pub filters: Filters,
}

#[derive(Debug)]
pub(crate) struct Bus {
    ring: Mutex<VecDeque<Arc<EventMessage>>>,
    live: broadcast::Sender<Arc<EventMessage>>,
}

impl Bus {
    pub(crate) fn new() -> Self {
        Self { ring: Mutex::default(), live: broadcast::channel(KEPT).0 }
    }

    /// How many clients listen.
    pub(crate) fn listeners(&self) -> usize {
        self.live.receiver_count()
    }

    /// Tell everybody. `kind` is `container`, `image`, `volume`, `network` or `daemon`.
    pub(crate) fn publish(
        &self,
        kind: &str,
        action: impl Into<String>,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let now = clock::now_ns();
        let event = Arc::new(EventMessage {
            kind: kind.to_owned(),
            action: action.into(),
            actor: EventActor { id: id.to_owned(), attributes: Some(attributes) },
            scope: "local".to_owned(),
            time: now / 1_000_000_000,
            time_nano: now,
        });
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&event));
        // Under the lock, so that a subscriber sees each event exactly once. Nobody listening is fine.
        let _ = self.live.send(event);
    }

    /// Kept and coming events that match.
    ///
    /// # Errors
    /// Invalid for an unknown filter or `until` before `since`.
    pub(crate) fn subscribe(&self, options: EventsOptions) -> Result<AnyStream<EventMessage>> {
        if let Some(key) = options.filters.unknown_key(FILTERS) {
            return Err(fail!(Invalid, "invalid filter '{key}'"));
        }
        if let (Some(since), Some(until)) = (options.since, options.until)
            && until < since
        {
            return Err(fail!(Invalid, "`since` time ({since}) cannot be after `until` time ({until})"));
        }
        let (kept, live) = {
            let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let kept: VecDeque<_> = match options.since {
                Some(since) => ring.iter().filter(|e| e.time_nano >= since).cloned().collect(),
                None if options.until.is_some() => ring.iter().cloned().collect(),
                None => VecDeque::new(),
            };
            (kept, self.live.subscribe())
        };
        let deadline = options.until.map(|until| {
            let left = u64::try_from(until.saturating_sub(clock::now_ns())).unwrap_or(0);
            tokio::time::Instant::now() + Duration::from_nanos(left)
        });
        let feed = Feed { kept, live, deadline, options };
        Ok(Box::pin(futures_util::stream::unfold(feed, |mut feed| async move {
            let event = feed.next().await?;
            Some((EventMessage::clone(&event), feed))
        })))
    }
}

struct Feed {
    kept: VecDeque<Arc<EventMessage>>,
    live: broadcast::Receiver<Arc<EventMessage>>,
    deadline: Option<tokio::time::Instant>,
    options: EventsOptions,
}

impl Feed {
    async fn next(&mut self) -> Option<Arc<EventMessage>> {
        loop {
            let event = match self.kept.pop_front() {
                Some(event) => event,
                None => {
                    let received = match self.deadline {
                        Some(deadline) => tokio::time::timeout_at(deadline, self.live.recv()).await.ok()?,
                        None => self.live.recv().await,
                    };
                    match received {
                        Ok(event) => event,
                        Err(broadcast::error::RecvError::Lagged(lost)) => {
                            tracing::debug!(lost, "an events client is too slow");
                            continue;
                        }
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            };
            if self.options.until.is_some_and(|until| event.time_nano > until) {
                if self.kept.is_empty() {
                    return None;
                }
                continue;
            }
            if matches(&event, &self.options.filters) {
                return Some(event);
            }
        }
    }
}

fn matches(event: &EventMessage, filters: &Filters) -> bool {
    let empty = BTreeMap::new();
    let attributes = event.actor.attributes.as_ref().unwrap_or(&empty);
    let name = attributes.get("name").map_or("", String::as_str);
    let id = event.actor.id.as_str();
    let fuzzy =
        |key: &str| filters.any_match(key, |want| id.starts_with(want) || (!want.is_empty() && name.starts_with(want)));
    let image = || {
        let own = if event.kind == "image" { name } else { attributes.get("image").map_or("", String::as_str) };
        let bare = |text: &str| strip_tag(text).to_owned();
        filters.any_match("image", |want| {
            want == id || want == own || want == bare(own) || (event.kind == "image" && want == bare(id))
        })
    };
    let action = event.action.as_str();
    let verb = action.split(':').next().unwrap_or(action);
    filters.any_match("event", |want| want == action || want == verb)
        && filters.exact_match("type", &event.kind)
        && filters.exact_match("scope", &event.scope)
        && fuzzy("daemon")
        && fuzzy("container")
        && fuzzy("plugin")
        && fuzzy("volume")
        && fuzzy("network")
        && fuzzy("node")
        && fuzzy("service")
        && fuzzy("secret")
        && fuzzy("config")
        && image()
        && filters.match_labels("label", |key| attributes.get(key).map(String::as_str))
}

fn strip_tag(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rfind(':') {
        Some(at) if !name[at..].contains('/') => &name[..at],
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        pairs.iter().copied().collect()
    }

    #[tokio::test]
    async fn kept_then_live_each_once_until_the_deadline() {
        let bus = Bus::new();
        let attributes = BTreeMap::from([("name".to_owned(), "web".to_owned()), ("image".into(), "app:1".into())]);
        bus.publish("container", "create", "abc", attributes.clone());
        bus.publish("network", "connect", "net", BTreeMap::new());
        let options = EventsOptions {
            since: Some(0),
            until: Some(clock::now_ns() + 50_000_000),
            filters: filters(&[("type", "container")]),
        };
        let stream = bus.subscribe(options).unwrap();
        bus.publish("container", "exec_start: sh -c x", "abc", attributes);
        let got: Vec<_> = stream.map(|e| e.action).collect().await;
        assert_eq!(got, ["create", "exec_start: sh -c x"]);
        let bad = EventsOptions { filters: filters(&[("nosuch", "x")]), ..EventsOptions::default() };
        assert!(bus.subscribe(bad).is_err());
    }

    #[test]
    fn filters_by_every_aspect() {
        let event = EventMessage {
            kind: "container".into(),
            action: "health_status: healthy".into(),
            actor: EventActor {
                id: "abcdef".into(),
                attributes: Some(BTreeMap::from([
                    ("name".into(), "web".into()),
                    ("image".into(), "host:5000/app:1".into()),
                    ("tier".into(), "front".into()),
                ])),
            },
            ..EventMessage::default()
        };
        for yes in [
            ("event", "health_status"),
            ("event", "health_status: healthy"),
            ("container", "abc"),
            ("container", "web"),
            ("image", "host:5000/app"),
            ("image", "host:5000/app:1"),
            ("label", "tier"),
            ("label", "tier=front"),
        ] {
            assert!(matches(&event, &filters(&[yes])), "{yes:?}");
        }
        for no in [("event", "health"), ("container", "x"), ("image", "app"), ("label", "tier=back"), ("type", "image")]
        {
            assert!(!matches(&event, &filters(&[no])), "{no:?}");
        }
    }
}
