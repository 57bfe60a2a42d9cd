//! One request per argument, several at a time, output in the order of the arguments.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use crate::{
    Error, Result,
    term::output::{print_line, warn},
};

/// Most requests under way at once.
const WORKERS: usize = 16;

/// Calls `work` for every name. What it returns is printed as soon as all before it are; failures are printed last and
/// make the exit code 1.
pub(crate) fn each(names: &[String], work: impl Fn(&str) -> Result<Option<String>> + Sync) -> Result<u8> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let mut failures = Vec::new();
    let mut broken = None;
    let mut take = |result: Result<Option<String>>| match result {
        Ok(None) => {}
        Ok(Some(line)) => {
            if let Err(error) = print_line(&line) {
                broken.get_or_insert(error);
            }
        }
        Err(error) => failures.push(error.to_string()),
    };
    if let [only] = names {
        // The common case needs no thread.
        take(work(only));
    } else {
        std::thread::scope(|scope| {
            for _ in 0..WORKERS.min(names.len()) {
                let (sender, next, work) = (sender.clone(), &next, &work);
                scope.spawn(move || {
                    while let Some((at, name)) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, names.get(at)?)))
                    {
                        // The receiver outlives the scope.
                        let _ = sender.send((at, work(name)));
                    }
                });
            }
            drop(sender);
            let mut early = BTreeMap::new();
            let mut due = 0;
            for (at, result) in results {
                early.insert(at, result);
                while let Some(result) = early.remove(&due) {
                    take(result);
                    due += 1;
                }
            }
        });
    }
    if let Some(error) = broken {
        return Err(error);
    }
    if failures.is_empty() {
        return Ok(0);
    }
    for failure in failures {
        warn(&failure);
    }
    Err(Error::Silent(1))
}
