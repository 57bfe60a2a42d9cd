//! Whether and when a container is started again after its exit. Pure. Called by the exit path and
//! at engine start.

use std::time::Duration;

/// A container that ran this long is taken to be well: the back-off begins anew.
const WELL_AFTER: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// `--restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    No,
    Always,
    UnlessStopped,
    /// At most so many times; 0: without limit.
    OnFailure(u32),
}

impl RestartPolicy {
    /// From the API's name and count; unknown names were refused at creation.
    pub(crate) fn new(name: &str, maximum: i64) -> Self {
        match name {
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure(u32::try_from(maximum).unwrap_or(0)),
            _ => Self::No,
        }
    }

    /// After an exit the user did not ask for.
    pub(crate) fn restarts(self, exit_code: i32, restarts_so_far: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure(max) => exit_code != 0 && (max == 0 || restarts_so_far < max),
        }
    }

    /// When the engine starts and finds the container not running. `stopped_by_user`: the last stop
    /// was asked for.
    pub(crate) fn starts_with_engine(self, stopped_by_user: bool, exit_code: i32, restarts_so_far: u32) -> bool {
        match self {
            Self::Always => true,
            Self::UnlessStopped => !stopped_by_user,
            Self::OnFailure(_) => !stopped_by_user && self.restarts(exit_code, restarts_so_far),
            Self::No => false,
        }
    }
}

/// 100 ms, doubling to a minute, back to the start after ten seconds of running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The delay before the next start, after a run of `ran`.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        let delay = match self.last {
            Some(last) if ran < WELL_AFTER => (last * 2).min(LONGEST_DELAY),
            _ => FIRST_DELAY,
        };
        self.last = Some(delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        use RestartPolicy::*;
        assert_eq!(RestartPolicy::new("on-failure", 2), OnFailure(2));
        assert!(!No.restarts(1, 0));
        assert!(Always.restarts(0, 99) && UnlessStopped.restarts(0, 99));
        assert!(OnFailure(2).restarts(1, 1) && !OnFailure(2).restarts(1, 2) && !OnFailure(0).restarts(0, 0));
        assert!(Always.starts_with_engine(true, 0, 0) && !UnlessStopped.starts_with_engine(true, 0, 0));
        assert!(!No.starts_with_engine(false, 255, 0) && OnFailure(0).starts_with_engine(false, 255, 9));
    }

    #[test]
    fn delays_double_and_reset() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let first: Vec<_> = (0..4).map(|_| backoff.next(short).as_millis()).collect();
        assert_eq!(first, [100, 200, 400, 800]);
        for _ in 0..10 {
            backoff.next(short);
        }
        assert_eq!(backoff.next(short), LONGEST_DELAY);
        assert_eq!(backoff.next(Duration::from_secs(11)), FIRST_DELAY);
    }
}
