//! `image ls` with many images.

use std::io::Write;

use anyhow::Result;

use super::sample::Sample;
use super::side::{Dhowd, Row};
use crate::shell;

const IMAGES: usize = 2_000;

/// Imports images of one small file each and lists them.
pub fn run(daemon: &Dhowd, rounds: usize) -> Result<Row> {
    let dir = tempfile::tempdir_in(shell::target())?;
    let (file, archive) = (dir.path().join("file"), dir.path().join("archive.tar"));
    for number in 0..IMAGES {
        writeln!(std::fs::File::create(&file)?, "{number}")?;
        let [tree, out] = [dir.path(), &archive].map(|path| path.display().to_string());
        shell::run(&mut shell::command("tar", ["-C", &tree, "-cf", &out, "file"]))?;
        daemon.side.run(&["import", &out, &format!("many/{}:{number}", number / 10)])?;
    }
    let mut listed = Sample::default();
    daemon.side.run(&["image", "ls"])?;
    for _ in 0..rounds.max(10) {
        listed.measure(|| daemon.side.run(&["image", "ls"]))?;
    }
    let met = if listed.median().as_millis() < 30 { "met" } else { "not met" };
    let work = format!("`image ls` with {IMAGES} images");
    eprintln!("  {work}: {} ({met})", listed.shown());
    Ok(Row { work, goal: "≤ 30 ms".into(), peer: String::new(), ours: listed.shown(), ratio: met.into() })
}
