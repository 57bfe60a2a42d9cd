//! Mutated archives: our list of members is that of GNU tar, Go's `archive/tar` and Python's `tarfile`, or we refuse
//! the archive. Where the three disagree among themselves there is nothing to agree with, so refusing is the only way.
//!
//! 20,000 archives by default, 200,000 with `DHOW_TEST_LONG=1`, any number with `DHOW_TEST_ARCHIVES`. A failure names
//! the archive's number; `DHOW_TEST_ARCHIVE_FROM=NUMBER DHOW_TEST_ARCHIVES=1` makes it again, and
//! `DHOW_TEST_ARCHIVES_KEEP=DIR` writes those that failed to a directory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use layer::tar::Error;

use crate::corpus;
use crate::mutate::{Random, mutated};
use crate::peers::{Gnu, Listing, Peer, ours};

/// Differences that are shown; the count is of all.
const SHOWN: usize = 40;

#[derive(Debug, Default)]
struct Count {
    equal: u64,
    refused: BTreeMap<String, u64>,
    differing: Vec<String>,
}

struct Peers {
    python: Option<Peer>,
    go: Option<Peer>,
    gnu: Option<Gnu>,
}

impl Peers {
    fn start() -> Self {
        Self { python: Peer::python(), go: Peer::go(), gnu: Gnu::new() }
    }

    fn missing(&self) -> Vec<&'static str> {
        let has = [("Python", self.python.is_some()), ("Go", self.go.is_some()), ("GNU tar", self.gnu.is_some())];
        has.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect()
    }

    /// What the others say differently of an archive that we accept.
    fn differ(&mut self, bytes: &[u8], list: &Listing, entries: &[layer::tar::Entry]) -> Vec<String> {
        let mut out = Vec::new();
        for (name, peer) in [("Python", &mut self.python), ("Go", &mut self.go)] {
            let Some(peer) = peer else { continue };
            let theirs = peer.list(bytes);
            if let Some(why) = &theirs.refused {
                if list.members.is_empty() {
                    // Not an archive to them, without members to us: nothing that could be misread.
                    continue;
                }
                out.push(format!("{name} refuses: {why}"));
            } else if theirs != *list {
                let at = theirs.members.iter().zip(&list.members).position(|(theirs, ours)| theirs != ours);
                let shown = |list: &Listing| {
                    at.map_or(format!("{} members", list.members.len()), |at| list.members[at].clone())
                };
                out.push(format!("{name}: {} not {}", shown(&theirs), shown(list)));
            }
        }
        if let Some(difference) = self.gnu.as_ref().and_then(|gnu| gnu.differs(bytes, entries))
            && !(list.members.is_empty() && difference.starts_with("refused"))
        {
            out.push(format!("GNU tar: {difference}"));
        }
        out
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
#[expect(clippy::print_stderr, reason = "figures of the run, and what was left out of it")]
fn lists_are_those_of_gnu_go_and_python_or_none() {
    let long = std::env::var("DHOW_TEST_LONG").is_ok_and(|value| value == "1");
    let from = number("DHOW_TEST_ARCHIVE_FROM").unwrap_or(0);
    let count = number("DHOW_TEST_ARCHIVES").unwrap_or(if long { 200_000 } else { 20_000 });
    let keep = std::env::var_os("DHOW_TEST_ARCHIVES_KEEP").map(std::path::PathBuf::from);
    let missing = Peers::start().missing();
    for name in &missing {
        eprintln!("skipped: archives are not compared with {name}, which is not installed");
    }
    let seeds = corpus::seeds();
    let mut peers = Peers::start();
    let mut differ = Vec::new();
    for (index, seed) in seeds.iter().enumerate() {
        let (list, entries) = ours(seed).unwrap_or_else(|error| panic!("seed {index}: {error}"));
        differ.extend(peers.differ(seed, &list, &entries).into_iter().map(|text| format!("seed {index}: {text}")));
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    drop(peers);
    let total = Mutex::new(Count::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (total, seeds, keep) = (&total, &seeds, &keep);
            scope.spawn(move || {
                let (mut peers, mut mine) = (Peers::start(), Count::default());
                for case in (from..from + count).filter(|case| case % threads == thread) {
                    let bytes = mutated(&mut Random::new(case), seeds);
                    match ours(&bytes) {
                        Ok((list, entries)) => match peers.differ(&bytes, &list, &entries) {
                            differ if differ.is_empty() => mine.equal += 1,
                            differ => {
                                if let Some(dir) = keep {
                                    std::fs::write(dir.join(format!("{case}.tar")), &bytes).unwrap();
                                }
                                mine.differing.push(format!("{case}: {}", differ.join(" | ")));
                            }
                        },
                        Err(error) => *mine.refused.entry(reason(&error)).or_default() += 1,
                    }
                }
                let mut total = total.lock().unwrap();
                total.equal += mine.equal;
                total.differing.extend(mine.differing);
                for (reason, times) in mine.refused {
                    *total.refused.entry(reason).or_default() += times;
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    let refused: u64 = total.refused.values().sum();
    eprintln!("{count} archives: {} read alike, {refused} refused, {} differ", total.equal, total.differing.len());
    for (reason, times) in &total.refused {
        eprintln!("  refused {times}: {reason}");
    }
    assert!(total.differing.is_empty(), "{}", total.differing[..total.differing.len().min(SHOWN)].join("\n"));
    // What is mostly refused proves little.
    assert!(count < 1000 || total.equal * 10 > count, "too few archives were read");
}

/// The kind of refusal without what is particular to an archive.
fn reason(error: &Error) -> String {
    match error {
        Error::Path { reason, .. } => format!("path: {reason}"),
        Error::MemberType(_) => "unsupported member type".to_owned(),
        other => other.to_string(),
    }
}
