//! The network process of an engine, started by the daemon: rules of the firewall, name servers of containers, ports that
//! rules cannot forward.

use std::io::Write;
use std::process::ExitCode;

use dataplane::Owner;
use dataplane::server::{Options, run};
use lexopt::prelude::*;

const USAGE: &str = "\
Usage: dhow-net --socket PATH --table NAME [--owner=auto|off] [--resolv-conf PATH]

dhow-net is started by dhowd; run dhow instead.

  --socket PATH       the control socket; PATH.lock is locked while it is served
  --table NAME        the nf_tables table of the engine
  --owner=auto|off    whether the table belongs to this process alone where the kernel can keep it (default auto)
  --resolv-conf PATH  the host's list of name servers (default /etc/resolv.conf)
  --version           show the version
";

fn main() -> ExitCode {
    let options = match parse() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("dhow-net: {error}\n\n{USAGE}"));
            return ExitCode::from(125);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("dhow-net: {error}\n"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// The options, or nothing when all was said already.
fn parse() -> Result<Option<Options>, lexopt::Error> {
    let (mut socket, mut table, mut owner) = (None, None, Owner::Auto);
    let mut resolv_conf = "/etc/resolv.conf".into();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("socket") => socket = Some(parser.value()?.into()),
            Long("table") => table = Some(parser.value()?.string()?),
            Long("owner") => {
                owner = match parser.value()?.string()?.as_str() {
                    "auto" => Owner::Auto,
                    "off" => Owner::Off,
                    other => return Err(format!("`{other}` is neither auto nor off").into()),
                }
            }
            Long("resolv-conf") => resolv_conf = parser.value()?.into(),
            Long("version") => {
                let _ = std::io::stdout()
                    .write_all(concat!("dhow-net version ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
                return Ok(None);
            }
            Long("help") | Short('h') => {
                let _ = std::io::stdout().write_all(USAGE.as_bytes());
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    let missing = |flag: &str| lexopt::Error::from(format!("{flag} is missing"));
    let (socket, table) = (socket.ok_or_else(|| missing("--socket"))?, table.ok_or_else(|| missing("--table"))?);
    Ok(Some(Options { socket, table, owner, resolv_conf }))
}

/// One write, without the machinery of the formatted streams.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
