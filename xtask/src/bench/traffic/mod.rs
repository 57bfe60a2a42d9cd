//! What passes through networks, beside a real dockerd and beside the same kernel without an engine: streams, requests and
//! names. The sides take turns, each round beginning with another, since what else the machine does changes all the time.

mod lab;
mod rates;
mod side;

use std::path::Path;

use anyhow::Result;

use super::side::Side;
use lab::{FAR, HOST, Lab, OUTSIDE, Start};
use rates::{Goal, Rates, Row, Unit};
use side::Pair;

/// Of one transfer, and of one measurement of names.
const SECONDS: &str = "1";
/// The port all servers have inside.
const PORT: u16 = 5001;
/// Published ports of each side, and that of the servers without an engine.
const PUBLISHED: [u16; 2] = [23_001, 23_002];
const BARE: u16 = 23_000;
/// Names that only the upstream server knows. After the first question they may come from a cache.
const FOREIGN: [&str; 4] = ["one.example", "two.example", "three.example", "four.example"];
/// Who is measured, in the order of the columns: nobody, dockerd, dhow.
const SIDES: usize = 3;

const PEER: Goal = Goal { peer: Some(1.0), bare: None, most: None };
const PUBLIC: Goal = Goal { peer: Some(1.0), bare: Some(0.95), most: None };
const NONE: Goal = Goal { peer: None, bare: None, most: None };

/// Whose measurement begins how, and where to.
type Way = [(Start, String); SIDES];

/// Measures and prints. Both sides have `busybox:latest`; `load` is the program of traffic.
pub fn run(docker: &Side, dhow: &Side, load: &Path, rounds: usize) -> Result<()> {
    let rounds = rounds.clamp(1, 10);
    let lab = Lab::make(load)?;
    lab.serve(&Start::host(), &format!("{HOST}:{BARE}"))?;
    lab.serve(&Start::host(), &format!("127.0.0.1:{BARE}"))?;
    lab.serve(&lab.outside.start(), &format!("{OUTSIDE}:{PORT}"))?;
    lab.serve(&lab.far.start(), &format!("{FAR}:{PORT}"))?;
    lab.name_server(&lab.outside.start(), &format!("{OUTSIDE}:53"))?;
    let pairs = [Pair::make(docker, &lab, PUBLISHED[0])?, Pair::make(dhow, &lab, PUBLISHED[1])?];
    let [peer, ours] = &pairs;

    let mut rows = Vec::new();
    let inside = |pair: &Pair<'_>| format!("{}:{PORT}", pair.address);
    let published = |address: &str| PUBLISHED.map(|port| format!("{address}:{port}"));
    let ways: [(&str, Way, &[&str], Goal); 4] = [
        (
            "container to container",
            [(lab.near.start(), format!("{FAR}:{PORT}")), (peer.start(), inside(peer)), (ours.start(), inside(ours))],
            &["send", "ask"],
            PEER,
        ),
        (
            "host to container",
            [
                (Start::host(), format!("{OUTSIDE}:{PORT}")),
                (Start::host(), inside(peer)),
                (Start::host(), inside(ours)),
            ],
            &["send", "fetch", "ask"],
            PEER,
        ),
        (
            "published port, from another host",
            ways(&lab.outside.start(), format!("{HOST}:{BARE}"), published(HOST)),
            &["send", "fetch", "ask"],
            PUBLIC,
        ),
        (
            "published port, from 127.0.0.1",
            ways(&Start::host(), format!("127.0.0.1:{BARE}"), published("127.0.0.1")),
            &["send", "fetch", "ask"],
            PUBLIC,
        ),
    ];
    for (work, way, kinds, goal) in &ways {
        for kind in *kinds {
            let (what, unit) = match *kind {
                "send" => ("bytes there", Unit::Bits),
                "fetch" => ("bytes back", Unit::Bits),
                _ => ("requests", Unit::PerSecond),
            };
            let taken = take_turns(&lab, way, rounds, |target| vec![(*kind).into(), target.into(), SECONDS.into()])?;
            rows.push(Row::new(&format!("{work}: {what}"), unit, *goal, taken.map(|runs| Rates::of(&runs, 0))));
        }
    }
    rows.extend(names(&lab, &pairs, rounds)?);
    rates::table(&rows);
    Ok(())
}

fn ways(start: &Start, bare: String, [peer, ours]: [String; 2]) -> Way {
    [bare, peer, ours].map(|target| (start.clone(), target))
}

/// Names as containers ask for them; without an engine it is the upstream server that is asked.
fn names(lab: &Lab, [peer, ours]: &[Pair<'_>; 2], rounds: usize) -> Result<Vec<Row>> {
    let way: Way = [
        (Start::host(), format!("{OUTSIDE}:53")),
        (peer.start(), "127.0.0.11:53".into()),
        (ours.start(), "127.0.0.11:53".into()),
    ];
    let mut rows = Vec::new();
    for (work, names) in [("names of containers", &[side::SERVER][..]), ("names from outside, cached", &FOREIGN)] {
        let measure = |in_flight: &str| {
            take_turns(lab, &way, rounds, |target| {
                let words = ["names", target, SECONDS, in_flight].into_iter().chain(names.iter().copied());
                words.map(str::to_owned).collect()
            })
        };
        let (busy, alone) = (measure("8")?, measure("1")?);
        for (whose, runs) in ["upstream", "dockerd", "dhow"].iter().zip(&busy) {
            let lost: f64 = runs.iter().filter_map(|figures| figures.get(3)).sum();
            if lost > 0.0 {
                eprintln!("  {work}: {whose} lost {lost} answers");
            }
        }
        let column = |runs: &[Vec<Vec<f64>>; SIDES], column| runs.each_ref().map(|runs| Rates::of(runs, column));
        let faster = Goal { peer: Some(5.0), ..NONE };
        rows.push(Row::new(&format!("{work}: eight at a time"), Unit::PerSecond, faster, column(&busy, 0)));
        rows.push(Row::new(&format!("{work}: one at a time, median"), Unit::Microseconds, NONE, column(&alone, 1)));
        let quick = Goal { most: Some(1000.0), ..NONE };
        rows.push(Row::new(&format!("{work}: one at a time, 99 of 100"), Unit::Microseconds, quick, column(&alone, 2)));
    }
    Ok(rows)
}

/// The figures of every run, by side.
fn take_turns(
    lab: &Lab,
    way: &Way,
    rounds: usize,
    words: impl Fn(&str) -> Vec<String>,
) -> Result<[Vec<Vec<f64>>; SIDES]> {
    let mut taken: [Vec<Vec<f64>>; SIDES] = Default::default();
    for round in 0..rounds {
        for turn in 0..SIDES {
            let side = (round + turn) % SIDES;
            let (start, target) = &way[side];
            taken[side].push(lab.measure(start, &words(target))?);
        }
    }
    Ok(taken)
}
