//! Against Go's own encoders: `DHOW_TEST_GO` is a Go of 1.27 or later, `DHOW_TEST_GO_CLASSIC` one before. Without one of
//! them the test says which it left out. 50 mixed streams per level by default, 2,000 and one of several hundred megabytes
//! with `DHOW_TEST_LONG=1`.

#![allow(clippy::print_stderr)]

mod go;
mod inputs;

use std::cell::RefCell;

use deflate::{Dialect, gzip};
use go::Go;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn long() -> bool {
    std::env::var("DHOW_TEST_LONG").is_ok_and(|value| value == "1")
}

/// The header that Go writes at a level.
fn header(level: u8) -> gzip::Header {
    let flags = match level {
        1 => 4,
        9 => 2,
        _ => 0,
    };
    gzip::Header::parse(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, flags, 255]).unwrap()
}

fn ours(dialect: Dialect, level: u8, input: &[u8], piece: usize) -> Vec<u8> {
    let mut encoder = gzip::Encoder::new(&header(level), dialect, level).unwrap();
    let mut out = Vec::new();
    for piece in input.chunks(piece) {
        encoder.write(piece, &mut out);
    }
    encoder.finish(&mut out);
    out
}

/// Both write the same, and ours in two ways.
fn compare(go: &mut Go, dialect: Dialect, level: u8, name: &str, input: &[u8]) {
    let theirs = go.gzip(level, 0, input);
    for piece in [usize::MAX, 1021] {
        let ours = ours(dialect, level, input, piece);
        if let Some(at) = (0..ours.len().max(theirs.len())).find(|&at| ours.get(at) != theirs.get(at)) {
            panic!(
                "{dialect:?} level {level}, {name} of {} bytes in pieces of {piece}: they differ at byte {at} of {} and {}",
                input.len(),
                ours.len(),
                theirs.len()
            );
        }
    }
}

fn compare_all(dialect: Dialect, variable: &str) {
    let Some(go) = Go::start(variable) else { return };
    let go = RefCell::new(go);
    for level in 1..=9 {
        for (name, input) in inputs::fixed() {
            compare(&mut go.borrow_mut(), dialect, level, name, &input);
        }
        let cases = if long() { 500 } else { 50 };
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let run = runner.run(&inputs::mixed(), |recipe| {
            let input = recipe.make();
            let theirs = go.borrow_mut().gzip(level, recipe.piece, &input);
            prop_assert!(ours(dialect, level, &input, 4099) == theirs, "level {level}");
            Ok(())
        });
        if let Err(error) = run {
            panic!("{dialect:?}: {error}");
        }
    }
}

#[test]
fn go127_is_equalled() {
    compare_all(Dialect::Go127, "DHOW_TEST_GO");
}

#[test]
fn classic_go_is_equalled() {
    compare_all(Dialect::GoClassic, "DHOW_TEST_GO_CLASSIC");
}

/// Positions begin again after a gigabyte, and Go's after two; a small part of that is what time allows.
#[test]
fn hundreds_of_megabytes_are_equalled() {
    if !long() {
        return;
    }
    let mut input = Vec::new();
    for part in 0..6_000 {
        inputs::append(&mut input, (part % 8) as u8, 50_000, part % 997);
    }
    for (dialect, variable) in [(Dialect::Go127, "DHOW_TEST_GO"), (Dialect::GoClassic, "DHOW_TEST_GO_CLASSIC")] {
        let Some(mut go) = Go::start(variable) else { continue };
        assert!(go.gzip(6, 0, &input) == ours(dialect, 6, &input, 1 << 20), "{dialect:?}");
    }
}
