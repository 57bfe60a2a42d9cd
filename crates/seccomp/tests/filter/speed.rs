//! Figures, not assertions: what compiling Docker's default profile costs, how large the programs are, what a call
//! pays for them and how long the kernel takes to load them; ours beside libseccomp's. Times are the best of
//! many, since the machine may have other work.
//!
//! `cargo test --release -p seccomp --test filter -- --ignored --nocapture speed`, as root.

use std::hint::black_box;
use std::time::Instant;

use crate::libseccomp::{Answer, Libseccomp};
use crate::machine::{Call, Program};
use crate::profiles::{DOCKER_CAPS, context};
use seccomp::{Arch, Profile, compile};

/// The shortest time of a part of `batch` runs of `work`, µs.
fn best(batches: u32, batch: u32, mut work: impl FnMut()) -> f64 {
    let one = |_| {
        let begin = Instant::now();
        (0..batch).for_each(|_| work());
        begin.elapsed().as_secs_f64() * 1e6 / f64::from(batch)
    };
    (0..batches).map(one).fold(f64::INFINITY, f64::min)
}

/// The shortest time the kernel takes for one load, µs: a thread each, since a filter stays with its thread.
fn load_time(program: &[u8]) -> Option<f64> {
    let one = |_| {
        let program = program.to_vec();
        let load = move || {
            let begin = Instant::now();
            sys::seccomp::load(&program, 0).ok()?;
            Some(begin.elapsed().as_secs_f64() * 1e6)
        };
        std::thread::spawn(load).join().unwrap()
    };
    (0..200).map(one).try_fold(f64::INFINITY, |least, time| Some(least.min(time?)))
}

fn line(what: &str, built: f64, bytes: &[u8]) {
    let program = Program::new(bytes, Arch::X86_64);
    let steps = |nr| program.run(&Call { audit: Arch::X86_64.audit(), nr, args: [0; 6] }).1;
    let allowed: Vec<usize> = (0..450).map(steps).collect();
    let mean = allowed.iter().sum::<usize>() as f64 / allowed.len() as f64;
    let load = load_time(bytes).map_or("not as root".to_owned(), |time| format!("{time:.0} µs"));
    eprintln!(
        "{what:32} built in {built:8.1} µs  {:5} instructions  {mean:5.1} executed per call, at most {:3}  loaded in {load}",
        program.len(),
        allowed.iter().max().unwrap(),
    );
}

#[test]
#[ignore = "prints figures"]
fn of_the_default_profile() {
    let context = context(Arch::X86_64, DOCKER_CAPS);
    let made = best(200, 20, || drop(black_box(Profile::docker_default())));
    eprintln!("the profile itself is made in {made:.1} µs");
    let profile = Profile::docker_default();
    let built = best(200, 20, || drop(black_box(compile(black_box(&profile), &context).unwrap())));
    line("x86_64, x86 and x32", built, &compile(&profile, &context).unwrap());
    let Some(mut libseccomp) = Libseccomp::start() else { return };
    for (optimize, what) in [(1, "libseccomp (crun)"), (2, "libseccomp, binary tree (runc)")] {
        match libseccomp.filter(&profile, &context, Some(optimize), 10) {
            Answer::Program(bytes, time) => line(what, time as f64 / 1e3, &bytes),
            Answer::Refused => eprintln!("{what} refuses the default profile"),
        }
    }
}
