//! The command line of `dhow`: Docker's command tree, names, flags and output over the Engine API.
//!
//! From the outside in: [`main`] splits global flags from the command, `cmd` holds one file per command, `create`
//! turns the flags of `run` into a request, `format` renders answers and `term` owns the terminal. Requests go through
//! the `client` crate. No command prints but through `term::output`.

mod build;
mod cmd;
mod config;
mod create;
mod daemon;
mod error;
mod flags;
mod format;
mod globals;
mod session;
mod term;

use std::process::ExitCode;

pub(crate) use error::{Error, Result};
pub(crate) use session::Session;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    // Arguments that are no text name nothing: a lossy form gives the error message something to show.
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    match globals::run(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let text = error.to_string();
            if !text.is_empty() {
                term::output::warn(&text);
            }
            ExitCode::from(error.exit_code())
        }
    }
}
