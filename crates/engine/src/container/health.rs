//! Health checks: a command run in the container at intervals, judged by its exit code.
//!
//! One task per checked container while it runs; a probe that overruns its time is killed. Timers
//! are monotonic, so a step of the clock cannot make a container unhealthy. Called by start and
//! recovery.

use std::sync::Arc;
use std::time::Duration;

use docker_types::container::{ContainerConfig, Health, HealthLogEntry};
use docker_types::exec::ExecCreateBody;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::Container;
use super::record::Phase;
use crate::clock;
use crate::engine::Inner;
use crate::exec::{self, ExecStartOptions};

/// Results kept, and output kept of each, bytes.
const KEPT: usize = 5;
const OUTPUT: usize = 4096;
/// The first pause of a start period; each one after it is twice as long, up to the start interval.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The check with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
}

impl Check {
    /// None: no check, or `NONE`.
    fn of(config: &ContainerConfig) -> Option<Self> {
        let check = config.healthcheck.as_ref()?;
        let (kind, words) = check.test.split_first()?;
        let command = match kind.as_str() {
            "CMD" => words.to_vec(),
            "CMD-SHELL" => {
                let mut shell = match &config.shell {
                    Some(shell) if !shell.is_empty() => shell.0.clone(),
                    _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
                };
                shell.push(words.join(" "));
                shell
            }
            _ => return None,
        };
        let or = |ns: i64, default: u64| match u64::try_from(ns) {
            Ok(ns) if ns > 0 => Duration::from_nanos(ns),
            _ => Duration::from_secs(default),
        };
        (!command.is_empty()).then(|| Self {
            command,
            interval: or(check.interval, 30),
            timeout: or(check.timeout, 30),
            start_period: or(check.start_period, 0),
            start_interval: or(check.start_interval, 5),
            retries: if check.retries > 0 { check.retries } else { 3 },
        })
    }
}

impl Check {
    /// How long to wait before the next probe, of a container that has been `starting` all the time through `early` probes.
    ///
    /// Sooner than the start interval at first: what others wait for is healthy as soon as it can be, and within the start
    /// period a failure costs nothing.
    fn pause(&self, starting: bool, elapsed: Duration, early: u32) -> Duration {
        if !starting || elapsed >= self.start_period {
            return self.interval;
        }
        FIRST_PAUSE.saturating_mul(1 << early.min(16)).min(self.start_interval)
    }
}

/// Begin checking a container that has just been started or taken over.
pub(crate) fn begin(inner: &Arc<Inner>, container: &Arc<Container>) {
    let Some(check) = Check::of(&container.record().config) else {
        container.live().health = None;
        return;
    };
    container.live().health = Some(Health { status: "starting".into(), failing_streak: 0, log: Some(Vec::new()) });
    let task = {
        let (inner, container) = (Arc::clone(inner), Arc::clone(container));
        tokio::spawn(async move { run(&inner, &container, &check).await })
    };
    if let Some(old) = container.live().health_task.replace(task.abort_handle()) {
        old.abort();
    }
}

async fn run(inner: &Arc<Inner>, container: &Arc<Container>, check: &Check) {
    let begun = Instant::now();
    for probes in 0.. {
        let starting = container.live().health.as_ref().is_some_and(|h| h.status == "starting");
        tokio::time::sleep(check.pause(starting, begun.elapsed(), probes)).await;
        match container.phase() {
            Phase::Running => {}
            Phase::Paused => continue,
            _ => return,
        }
        let start = clock::now_ns();
        let (code, output) = probe(inner, container, check).await;
        if !container.phase().is_live() {
            return;
        }
        let entry = HealthLogEntry {
            start: clock::rfc3339(start),
            end: clock::rfc3339(clock::now_ns()),
            exit_code: i64::from(code),
            output,
        };
        let early = begun.elapsed() < check.start_period;
        let changed = container.live().health.as_mut().and_then(|health| judge(health, entry, early, check.retries));
        if let Some(status) = changed {
            inner.publish_container(container, &format!("health_status: {status}"), []);
        }
    }
}

/// Take a result in; gives the new status when it changed.
fn judge(health: &mut Health, entry: HealthLogEntry, early: bool, retries: i64) -> Option<String> {
    let before = health.status.clone();
    if entry.exit_code == 0 {
        health.failing_streak = 0;
        health.status = "healthy".into();
    } else if !(early && health.status == "starting") {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            health.status = "unhealthy".into();
        }
    }
    let log = health.log.get_or_insert_default();
    if log.len() >= KEPT {
        log.remove(0);
    }
    log.push(entry);
    (health.status != before).then(|| health.status.clone())
}

/// Run the command once: exit code (-1 when it could not be judged) and output.
async fn probe(inner: &Arc<Inner>, container: &Arc<Container>, check: &Check) -> (i32, String) {
    let body = ExecCreateBody {
        // A terminal would change what programs print; frames are taken off below.
        attach_stdout: true,
        attach_stderr: true,
        cmd: Some(check.command.clone().into()),
        ..ExecCreateBody::default()
    };
    let name = container.record().name.clone();
    let exec = match exec::create(inner, container, &name, body).await {
        Ok(exec) => exec,
        Err(error) => return (-1, error.to_string()),
    };
    let work = async {
        let attached = match exec::start(inner, &exec, &ExecStartOptions::default()).await {
            Ok(attached) => attached,
            Err(error) => return (-1, error.to_string()),
        };
        let mut output = Vec::new();
        if let Some(mut attached) = attached {
            let mut block = [0u8; 4096];
            // Read on to the end, so that a talkative probe is not blocked; keep the beginning.
            while let Ok(n @ 1..) = attached.stream.read(&mut block).await {
                let room = (2 * OUTPUT).saturating_sub(output.len());
                output.extend_from_slice(&block[..n.min(room)]);
            }
        }
        let code = exec.wait().await;
        (code, text_of(&output))
    };
    let result = match tokio::time::timeout(check.timeout, work).await {
        Ok(result) => result,
        Err(_) => {
            exec.kill().await;
            (
                -1,
                format!(
                    "Health check exceeded timeout ({})",
                    types::GoDuration(i64::try_from(check.timeout.as_nanos()).unwrap_or(i64::MAX),)
                ),
            )
        }
    };
    // Its exit event, if still to come, finds nobody and is dropped.
    if result.0 != -1 {
        inner.execs.forget(exec.id());
    }
    result
}

/// The payload of stdcopy frames, at most [`OUTPUT`] bytes.
fn text_of(mut frames: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((header, rest)) = frames.split_at_checked(8) {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let take = length.min(rest.len());
        text.extend_from_slice(&rest[..take]);
        frames = &rest[take..];
    }
    text.truncate(OUTPUT);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_period_is_asked_sooner_at_first() {
        let ms = Duration::from_millis;
        let check = Check {
            command: vec!["true".into()],
            interval: ms(30_000),
            timeout: ms(1000),
            start_period: ms(10_000),
            start_interval: ms(500),
            retries: 3,
        };
        let pauses: Vec<Duration> = (0..5).map(|early| check.pause(true, ms(0), early)).collect();
        assert_eq!(pauses, [ms(100), ms(200), ms(400), ms(500), ms(500)]);
        assert_eq!(check.pause(true, ms(0), u32::MAX), ms(500));
        assert_eq!(check.pause(true, ms(10_000), 0), ms(30_000), "from then on failures count");
        assert_eq!(check.pause(false, ms(0), 0), ms(30_000));
        let none = Check { start_period: ms(0), ..check };
        assert_eq!(none.pause(true, ms(0), 0), ms(30_000));
    }
    use docker_types::container::HealthConfig;

    fn entry(code: i64) -> HealthLogEntry {
        HealthLogEntry { exit_code: code, ..HealthLogEntry::default() }
    }

    #[test]
    fn judgement() {
        let mut health = Health { status: "starting".into(), ..Health::default() };
        assert_eq!(judge(&mut health, entry(1), true, 2), None);
        assert_eq!(health.failing_streak, 0);
        assert_eq!(judge(&mut health, entry(1), false, 2), None);
        assert_eq!(judge(&mut health, entry(1), false, 2).as_deref(), Some("unhealthy"));
        assert_eq!(judge(&mut health, entry(0), false, 2).as_deref(), Some("healthy"));
        for _ in 0..9 {
            judge(&mut health, entry(0), false, 2);
        }
        assert_eq!(health.log.unwrap().len(), KEPT);
    }

    #[test]
    fn defaults_and_forms() {
        let config = |test: &[&str]| ContainerConfig {
            healthcheck: Some(HealthConfig {
                test: test.iter().map(|s| (*s).to_owned()).collect(),
                ..HealthConfig::default()
            }),
            ..ContainerConfig::default()
        };
        let check = Check::of(&config(&["CMD-SHELL", "true"])).unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "true"]);
        assert_eq!((check.interval.as_secs(), check.retries), (30, 3));
        assert_eq!(Check::of(&config(&["NONE"])), None);
        assert_eq!(Check::of(&config(&[])), None);
    }

    #[test]
    fn frames_become_text() {
        assert_eq!(text_of(b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01!\x01\0\0\0\0\0\0\x09cut"), "hi!cut");
    }
}
