//! Listing containers with every filter of `docker ps`. Reads published records only, so a listing
//! never waits for an operation in progress. Called by the facade.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use docker_types::container::{ContainerSummary, HealthSummary, SummaryHostConfig, SummaryNetworkSettings};
use docker_types::network::{EndpointSettings, PortSummary};
use types::{ExposedPort, Filters, PortRange};

use super::record::{MountType, Phase, Record};
use super::{Container, inspect};
use crate::clock;
use crate::engine::Inner;
use crate::error::{Result, fail};

/// Which containers.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Those not running too.
    pub all: bool,
    /// The latest so many, running or not.
    pub limit: Option<usize>,
    /// Measure their files.
    pub size: bool,
    pub filters: Filters,
}

const FILTERS: &[&str] = &[
    "ancestor",
    "annotation",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// The containers that match, newest first.
///
/// # Errors
/// Invalid for a filter that makes no sense; not found for one that names a missing container.
pub(crate) async fn list(inner: &Arc<Inner>, options: ListOptions) -> Result<Vec<ContainerSummary>> {
    let matcher = Matcher::new(inner, &options.filters)?;
    let limit = options.limit.filter(|n| *n > 0);
    let all = options.all
        || limit.is_some()
        || ["status", "exited", "before", "since"].iter().any(|key| options.filters.contains(key));
    let mut chosen: Vec<(Arc<Container>, Arc<Record>)> = inner
        .containers
        .all()
        .into_iter()
        .map(|c| {
            let record = c.record();
            (c, record)
        })
        .filter(|(_, r)| all || matches!(r.state.phase, Phase::Running | Phase::Paused | Phase::Restarting))
        .filter(|(c, r)| matcher.matches(inner, c, r))
        .collect();
    chosen.sort_by(|(_, a), (_, b)| b.created_ns.cmp(&a.created_ns).then_with(|| a.id.cmp(&b.id)));
    chosen.truncate(limit.unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(chosen.len());
    let linked = crate::network::legacy_links::names(inner);
    for (container, record) in chosen {
        let mut summary = summary(inner, &container, &record);
        summary.names.extend(linked.iter().filter(|(id, _)| *id == record.id).map(|(_, name)| name.clone()));
        summary.names.sort();
        if options.size {
            let (rw, base) = inspect::sizes(inner, &record).await?;
            summary.size_rw = rw;
            summary.size_root_fs = rw + base;
        }
        out.push(summary);
    }
    Ok(out)
}

struct Matcher<'a> {
    filters: &'a Filters,
    exited: Vec<i32>,
    before_ns: Option<i64>,
    since_ns: Option<i64>,
    publish: Vec<(PortRange, String)>,
    expose: Vec<(PortRange, String)>,
    ancestors: Vec<(String, Option<String>)>,
    is_task: bool,
}

impl<'a> Matcher<'a> {
    fn new(inner: &Inner, filters: &'a Filters) -> Result<Self> {
        if let Some(key) = filters.unknown_key(FILTERS) {
            return Err(fail!(Invalid, "invalid filter '{key}'"));
        }
        for status in filters.get("status") {
            if !matches!(status, "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead") {
                return Err(fail!(
                    Invalid,
                    "invalid filter 'status={status}': invalid value for state ({status}): must be one of created, running, paused, restarting, removing, exited, dead"
                ));
            }
        }
        for health in filters.get("health") {
            if !matches!(health, "none" | "starting" | "healthy" | "unhealthy") {
                return Err(fail!(
                    Invalid,
                    "invalid filter 'health={health}': invalid value for health ({health}): must be one of none, starting, healthy, unhealthy"
                ));
            }
        }
        let exited = filters
            .get("exited")
            .map(|text| {
                text.parse().map_err(|_| {
                    fail!(Invalid, "invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax")
                })
            })
            .collect::<Result<_>>()?;
        let is_task = filters
            .boolean("is-task", false)
            .map_err(|v| fail!(Invalid, "invalid filter 'is-task=[{}]'", v.join(" ")))?;
        let time_of = |key: &str, pick: fn(i64, i64) -> i64| -> Result<Option<i64>> {
            let mut found: Option<i64> = None;
            for reference in filters.get(key) {
                let created = inner.containers.get(reference)?.record().created_ns;
                found = Some(found.map_or(created, |f| pick(f, created)));
            }
            Ok(found)
        };
        let ports = |key: &str| -> Result<Vec<(PortRange, String)>> {
            filters
                .get(key)
                .map(|text| {
                    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
                    PortRange::parse(range).map(|range| (range, protocol.to_owned())).ok_or_else(|| {
                        fail!(Invalid, "invalid filter '{key}={text}': it must look like 80/tcp or 80-90")
                    })
                })
                .collect()
        };
        let ancestors = filters
            .get("ancestor")
            .map(|name| (name.to_owned(), inner.images.resolve(name, None).ok().map(|i| i.id)))
            .collect();
        Ok(Self {
            filters,
            exited,
            before_ns: time_of("before", i64::min)?,
            since_ns: time_of("since", i64::max)?,
            publish: ports("publish")?,
            expose: ports("expose")?,
            ancestors,
            is_task: is_task && filters.contains("is-task"),
        })
    }

    fn matches(&self, inner: &Inner, container: &Container, record: &Record) -> bool {
        let f = self.filters;
        let state = &record.state;
        let in_ranges = |ranges: &[(PortRange, String)], port: u16, protocol: &str| {
            ranges.iter().any(|(r, p)| (r.start..=r.end).contains(&port) && p == protocol)
        };
        !self.is_task
            && f.any_match("id", |want| record.id.starts_with(want))
            && f.any_match("name", |want| name_matches(&record.name, want))
            && f.match_labels("label", |key| record.label(key))
            && f.any_match("annotation", |want| {
                let (key, value) = want.split_once('=').map_or((want, None), |(k, v)| (k, Some(v)));
                record.host_config.annotations.get(key).is_some_and(|v| value.is_none_or(|want| v == want))
            })
            && f.exact_match("status", state.phase.as_str())
            && (self.exited.is_empty() || (state.phase == Phase::Exited && self.exited.contains(&state.exit_code)))
            && f.any_match("health", |want| {
                let live = container.live();
                live.health.as_ref().map_or("none", |h| h.status.as_str()) == want
            })
            && self.before_ns.is_none_or(|t| record.created_ns < t)
            && self.since_ns.is_none_or(|t| record.created_ns > t)
            && f.any_match("volume", |want| {
                record
                    .mounts
                    .iter()
                    .any(|m| m.name == want || m.destination == want || (m.kind == MountType::Bind && m.source == want))
            })
            && f.any_match("network", |want| {
                let mode = &record.host_config.network_mode;
                record.endpoints.keys().any(|name| name == want || inner.networks.id_of(name).starts_with(want))
                    || mode == want
            })
            && (self.publish.is_empty()
                || state.ports.iter().any(|(key, bindings)| {
                    let Ok(port) = key.parse::<ExposedPort>() else { return false };
                    let protocol = port.protocol.as_str();
                    bindings
                        .iter()
                        .flatten()
                        .any(|b| b.host_port.parse().is_ok_and(|p| in_ranges(&self.publish, p, protocol)))
                }))
            && (self.expose.is_empty()
                || record.config.exposed_ports.iter().flat_map(|p| p.keys()).any(|key| {
                    key.parse::<ExposedPort>().is_ok_and(|p| in_ranges(&self.expose, p.port, p.protocol.as_str()))
                }))
            && (self.ancestors.is_empty()
                || self.ancestors.iter().any(|(name, id)| {
                    record.config.image == *name
                        || id.as_ref().is_some_and(|id| *id == record.image_id)
                        || record.image_id.trim_start_matches("sha256:").starts_with(name.trim_start_matches("sha256:"))
                            && name.len() >= 12
                }))
    }
}

/// Docker takes a name filter for a regular expression; the forms in use are a part of the name and
/// the anchors `^` (with or without the slash) and `$`.
fn name_matches(name: &str, want: &str) -> bool {
    let (start, rest) = match want.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, want),
    };
    let (end, rest) = match rest.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let slashed = format!("/{name}");
    let test = |text: &str| match (start, end) {
        (true, true) => text == rest,
        (true, false) => text.starts_with(rest),
        (false, true) => text.ends_with(rest),
        (false, false) => text.contains(rest),
    };
    test(name) || test(&slashed)
}

/// Nanoseconds of an `until` filter: a time or a duration before now.
///
/// # Errors
/// Invalid when it is neither, or given twice.
pub(crate) fn until(filters: &Filters) -> Result<Option<i64>> {
    let mut values = filters.get("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(fail!(Invalid, "more than one until filter specified"));
    }
    let (seconds, nanos) =
        docker_types::time::parse_when(text, std::time::SystemTime::now()).map_err(|e| fail!(Invalid, "{e}"))?;
    Ok(Some(seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos))))
}

/// Lists show where a container is, not what it is called there.
fn summary_networks(inner: &Inner, record: &Record) -> BTreeMap<String, EndpointSettings> {
    let mut networks = inspect::networks(inner, record);
    for settings in networks.values_mut() {
        settings.aliases = None;
        settings.links = None;
        settings.dns_names = None;
        settings.driver_opts = None;
    }
    networks
}

fn summary(inner: &Inner, container: &Container, record: &Record) -> ContainerSummary {
    let health = container.live().health.clone();
    ContainerSummary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: record.config.image.clone(),
        image_id: record.image_id.clone(),
        image_manifest_descriptor: record.manifest.clone(),
        command: command(&record.command_line()),
        created: record.created_ns / 1_000_000_000,
        ports: ports(record),
        labels: record.config.labels.clone().unwrap_or_default(),
        state: record.state.phase.as_str().into(),
        status: status(record, health.as_ref().map(|h| h.status.as_str())),
        host_config: SummaryHostConfig {
            network_mode: record.host_config.network_mode.clone(),
            annotations: record.host_config.annotations.clone(),
        },
        health: Some(match health {
            Some(h) => HealthSummary { status: h.status, failing_streak: h.failing_streak },
            None => HealthSummary { status: "none".into(), failing_streak: 0 },
        }),
        network_settings: SummaryNetworkSettings { networks: summary_networks(inner, record) },
        mounts: record.mounts.iter().map(|m| m.mount_point()).collect(),
        ..ContainerSummary::default()
    }
}

/// `Up 2 minutes (healthy)`, as `docker ps` prints it.
pub(crate) fn status(record: &Record, health: Option<&str>) -> String {
    let state = &record.state;
    let since = |ns: i64| {
        let age = u64::try_from(clock::now_ns().saturating_sub(ns)).unwrap_or(0);
        types::human_duration(Duration::from_nanos(age))
    };
    match state.phase {
        Phase::Running => {
            let health = match health {
                Some("starting") => " (health: starting)".to_owned(),
                Some(other) => format!(" ({other})"),
                None => String::new(),
            };
            format!("Up {}{health}", since(state.started_ns))
        }
        Phase::Paused => format!("Up {} (Paused)", since(state.started_ns)),
        Phase::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_ns)),
        Phase::Exited if state.finished_ns == 0 => "Created".into(),
        Phase::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_ns)),
        Phase::Removing => "Removal In Progress".into(),
        Phase::Dead => "Dead".into(),
        Phase::Created => "Created".into(),
    }
}

/// The command line with shell quotes where a shell would need them.
fn command(line: &[String]) -> String {
    let Some((first, rest)) = line.split_first() else { return String::new() };
    let mut out = first.clone();
    for word in rest {
        out.push(' ');
        if !word.is_empty() && !word.contains(|c: char| "\\'\"`${[|&;<>()~*?! \t\n".contains(c)) {
            out.push_str(word);
        } else {
            out.push('\'');
            out.push_str(&word.replace('\'', "'\\''"));
            out.push('\'');
        }
    }
    out
}

fn ports(record: &Record) -> Vec<PortSummary> {
    let mut list = Vec::new();
    for (key, bindings) in inspect::ports(record) {
        let Ok(port) = key.parse::<ExposedPort>() else { continue };
        let base =
            PortSummary { private_port: port.port, kind: port.protocol.as_str().to_owned(), ..PortSummary::default() };
        match bindings {
            Some(bindings) if !bindings.is_empty() => {
                list.extend(bindings.into_iter().map(|b| PortSummary {
                    ip: b.host_ip,
                    public_port: b.host_port.parse().unwrap_or(0),
                    ..base.clone()
                }));
            }
            _ => list.push(base),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_like_a_shell_would() {
        let line = |words: &[&str]| command(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["sh", "-c", "echo out; echo err >&2"]), "sh -c 'echo out; echo err >&2'");
        assert_eq!(line(&["echo", "it's", ""]), "echo 'it'\\''s' ''");
    }

    #[test]
    fn name_filters() {
        assert!(name_matches("web_1", "eb") && name_matches("web_1", "^/web_1$") && name_matches("web_1", "^web"));
        assert!(!name_matches("web_1", "^eb") && !name_matches("web_1", "^/web$"));
    }

    #[test]
    fn states_read_as_docker_prints_them() {
        let mut record = Record::default();
        assert_eq!(status(&record, None), "Created");
        record.state.phase = Phase::Running;
        record.state.started_ns = clock::now_ns() - 7_200_000_000_000;
        assert_eq!(status(&record, Some("starting")), "Up 2 hours (health: starting)");
        record.state.phase = Phase::Exited;
        record.state.finished_ns = record.state.started_ns;
        record.state.exit_code = 3;
        assert_eq!(status(&record, Some("healthy")), "Exited (3) 2 hours ago");
    }
}
