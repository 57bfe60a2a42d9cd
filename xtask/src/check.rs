//! `cargo xtask check`: what a change must pass before anything runs.

use anyhow::Result;

use crate::{shell, tidy};

pub fn run() -> Result<()> {
    shell::run(&mut shell::command("cargo", ["fmt", "--all", "--check"]))?;
    tidy::run()?;
    let mut clippy =
        shell::command("cargo", ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    shell::run(&mut clippy)
}
