//! Repeated measurements of one piece of work on one side.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

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

    /// For the way between two processes.
    pub fn nanos(&self) -> Vec<u64> {
        self.times.iter().map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).collect()
    }

    pub fn from_nanos(value: &Value) -> Self {
        let numbers = value.as_array().into_iter().flatten().filter_map(Value::as_u64);
        Self { times: numbers.map(Duration::from_nanos).collect() }
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
        // Three figures are what a measurement here is worth.
        let digits = if ms(self.median()) < 10.0 { 2 } else { 1 };
        let [half, low, high] = [0.5, 0.25, 0.75].map(|share| ms(self.quantile(share)));
        format!("{half:.digits$} ms ({low:.digits$}–{high:.digits$})")
    }
}

/// How many times longer the peer takes.
pub fn ratio(peer: &Sample, ours: &Sample) -> f64 {
    peer.median().as_secs_f64() / ours.median().as_secs_f64().max(1e-9)
}
