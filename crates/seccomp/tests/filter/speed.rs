//! Figures, not assertions: what compiling Docker's default profile costs, how large the programs are, what a call
//! pays for them and how long the kernel takes to load them; ours beside libseccomp's.
//!
//! `cargo test --release -p seccomp --test filter -- --ignored --nocapture speed`, as root.

use std::hint::black_box;
use std::time::Instant;

use crate::libseccomp::{Answer, Libseccomp};
use crate::machine::{Call, Program};
use crate::profiles::{DOCKER_CAPS, context};
use seccomp::{Arch, Profile, compile};

const TIMES: u32 = 2000;

/// Median time the kernel takes for one load, µs: a thread each, since a filter stays with its thread.
fn load_time(program: &[u8]) -> Option<f64> {
    let mut times: Vec<f64> = (0..101)
        .map(|_| {
            let program = program.to_vec();
            let load = move || {
                let begin = Instant::now();
                sys::seccomp::load(&program).ok()?;
                Some(begin.elapsed().as_secs_f64() * 1e6)
            };
            std::thread::spawn(load).join().unwrap()
        })
        .collect::<Option<_>>()?;
    times.sort_by(f64::total_cmp);
    Some(times[times.len() / 2])
}

fn line(what: &str, built: f64, bytes: &[u8]) {
    let program = Program::new(bytes, Arch::X86_64);
    let steps = |nr| program.run(&Call { audit: Arch::X86_64.audit(), nr, args: [0; 6] }).1;
    let allowed: Vec<usize> = (0..450).map(steps).collect();
    let mean = allowed.iter().sum::<usize>() as f64 / allowed.len() as f64;
    let load = load_time(bytes).map_or("not as root".to_owned(), |time| format!("{time:.0} µs"));
    eprintln!(
        "{what:32} built in {built:7.0} µs  {:5} instructions  {mean:5.1} executed per call, at most {:3}  loaded in {load}",
        program.len(),
        allowed.iter().max().unwrap(),
    );
}

#[test]
#[ignore = "prints figures"]
fn of_the_default_profile() {
    let context = context(Arch::X86_64, DOCKER_CAPS);
    let begin = Instant::now();
    for _ in 0..TIMES {
        black_box(Profile::docker_default());
    }
    eprintln!("the profile itself is made in {:.1} µs", begin.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES));
    let profile = Profile::docker_default();
    let begin = Instant::now();
    for _ in 0..TIMES {
        black_box(compile(black_box(&profile), &context)).unwrap();
    }
    let built = begin.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES);
    line("x86_64, x86 and x32", built, &compile(&profile, &context).unwrap());
    let Some(mut libseccomp) = Libseccomp::start() else { return };
    for (optimize, what) in [(1, "libseccomp (crun)"), (2, "libseccomp, binary tree (runc)")] {
        match libseccomp.filter(&profile, &context, Some(optimize), 5) {
            Answer::Program(bytes, time) => line(what, time as f64 / 1e3, &bytes),
            Answer::Refused => eprintln!("{what} refuses the default profile"),
        }
    }
}
