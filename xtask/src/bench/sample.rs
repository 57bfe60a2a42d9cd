//! Repeated measurements of one piece of work on one side.

use std::time::{Duration, Instant};

use anyhow::Result;

#[derive(Default)]
pub struct Sample {
    times: Vec<Duration>,
}

impl Sample {
    pub fn measure(&mut self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        work()?;
        self.times.push(begin.elapsed());
        Ok(())
    }

    fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
        sorted.get(at).copied().unwrap_or_default()
    }

    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// Median and the middle half, in milliseconds.
    pub fn shown(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        format!("{:.1} ms ({:.1}–{:.1})", ms(self.median()), ms(self.quantile(0.25)), ms(self.quantile(0.75)))
    }
}

/// How many times longer the peer takes.
pub fn ratio(peer: &Sample, ours: &Sample) -> f64 {
    peer.median().as_secs_f64() / ours.median().as_secs_f64().max(1e-9)
}
