//! The per-container process, started by the daemon with a control connection as standard input.

use std::process::ExitCode;

use shim::StartError;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "--version") {
        say(&format!("dhow-shim version {}\n", env!("CARGO_PKG_VERSION")), false);
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "--user-namespace") {
        return match shim::hold_user_namespace() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(125),
        };
    }
    match shim::serve() {
        Ok(never) => match never {},
        Err(StartError::NotASocket) => {
            say("dhow-shim is started by dhowd with a control socket as its standard input; run dhow instead.\n", true);
            ExitCode::from(125)
        }
        Err(StartError::System(errno)) => {
            say(&format!("dhow-shim: cannot start: {errno}\n"), true);
            ExitCode::from(125)
        }
    }
}

/// One write, without the machinery of the formatted streams.
fn say(text: &str, to_stderr: bool) {
    use std::io::Write;
    let _ = if to_stderr {
        std::io::stderr().write_all(text.as_bytes())
    } else {
        std::io::stdout().write_all(text.as_bytes())
    };
}
