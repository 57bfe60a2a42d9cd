//! The OCI runtime: runc's command line over `runtime`, for dockerd, containerd, podman and CRI-O.
//!
//! A command reads the bundle, validates it before anything exists, and turns it into the same launch plan the
//! engine makes; what it leaves between commands is one directory a container (see [`store`]).
//! Called by `bin/dhow-oci`.

mod alive;
mod bundle;
mod caller;
mod cmd;
mod console;
mod context;
mod create;
mod criu;
mod destroy;
mod error;
mod exec;
mod filter;
mod flags;
mod foreground;
mod groups;
mod home;
mod hooks;
mod idmap;
mod limits;
mod log;
mod net_devices;
mod network;
mod plan;
mod resctrl;
mod stages;
mod start;
mod statistics;
mod store;

use std::io::Write;
use std::process::ExitCode;

use lexopt::Parser;

use crate::cmd::COMMANDS;
use crate::context::{Context, GLOBAL};
use crate::error::Error;
use crate::flags::Flag;
use crate::log::Log;

/// Runs the command of the process's arguments and gives its exit code: 0, 1 for an error, that of the container's
/// process where one was waited for.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(errno) = sys::exe::protect() {
        let text = format!("cannot execute from where a container cannot write: {errno}");
        Log::default().error(&text);
        return ExitCode::FAILURE;
    }
    // After the execution by descriptor it is called after that.
    let _ = sys::process::set_name(c"dhow-oci");
    let mut parser = Parser::from_env();
    let given = match flags::read(&mut parser, &[GLOBAL], 1) {
        Ok(given) => given,
        Err(error) => return usage(&error),
    };
    if given.has("version") {
        return say(&format!("dhow-oci version {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), oci::VERSION));
    }
    let context = match Context::new(&given) {
        Ok(context) => context,
        Err(error) => return usage(&error),
    };
    let Some(name) = given.words.first().filter(|_| !given.has("help")) else { return say(&help()) };
    if name == "help" {
        return say(&help());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        let error = Error::Usage(format!("there is no command {name:?}; see dhow-oci --help"));
        context.log.error(&error.to_string());
        return ExitCode::FAILURE;
    };
    // What the first word did not take is the command's.
    let mut parser = Parser::from_args(given.words[1..].iter().cloned());
    let outcome = flags::read(&mut parser, &[command.flags, HELP], command.words).and_then(|given| {
        if given.has("help") {
            let _ = std::io::stdout().write_all(command_help(command).as_bytes());
            return Ok(0);
        }
        // Programs that are run on the way (hooks, criu, newuidmap) get none of the caller's descriptors but those that
        // are to be passed on.
        let _ = sys::fd::close_on_exec_from(3u32.saturating_add(cmd::passed(&given)));
        (command.run)(&context, &given)
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            context.log.error(&error.to_string());
            ExitCode::from(command.failure)
        }
    }
}

const HELP: &[Flag] = &[flags::switch("help", Some('h'), "print this help")];

fn usage(error: &Error) -> ExitCode {
    Log::default().error(&error.to_string());
    ExitCode::FAILURE
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn help() -> String {
    let mut text = "usage: dhow-oci [FLAGS] COMMAND [FLAGS] [ARGUMENTS]\n\nAn OCI runtime with runc's command line.\n\ncommands:\n".to_owned();
    for command in COMMANDS {
        text.push_str(&format!("  {:<12}{}\n", command.name, command.summary));
    }
    text.push_str("\nflags:\n");
    text.push_str(&flag_lines(GLOBAL));
    text
}

fn command_help(command: &cmd::Command) -> String {
    format!(
        "usage: dhow-oci {} [FLAGS] {}\n\n{}\n\nflags:\n{}{}",
        command.name,
        command.usage,
        command.summary,
        flag_lines(command.flags),
        flag_lines(HELP)
    )
}

fn flag_lines(flags: &[Flag]) -> String {
    flags
        .iter()
        .map(|flag| {
            let short = flag.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
            let name = format!("{short}--{} {}", flag.long, flag.value.unwrap_or_default());
            format!("  {name:<36}{}\n", flag.help)
        })
        .collect()
}
