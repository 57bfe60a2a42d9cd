//! Traffic for benchmarks: one static program that serves and asks, on the host, in bare namespaces and in containers. It
//! measures where the traffic is, so that what starts it costs nothing. `cargo xtask bench net` runs it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "results are its output")]

mod dns;
mod tcp;

use std::error::Error;
use std::time::Duration;

const USAGE: &str = "\
usage: load serve ADDRESS:PORT
       load send|fetch|ask ADDRESS:PORT SECONDS
       load name-server ADDRESS:PORT
       load names ADDRESS:PORT SECONDS IN-FLIGHT NAME...";

/// What any step may fail with.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = dispatch(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        eprintln!("load: {error}");
        std::process::exit(1);
    }
}

fn dispatch(args: &[&str]) -> Result<()> {
    match *args {
        ["serve", address] => tcp::serve(address.parse()?),
        ["name-server", address] => dns::serve(address.parse()?),
        ["send", address, seconds] => figures(&[tcp::send(address.parse()?, time(seconds)?)?]),
        ["fetch", address, seconds] => figures(&[tcp::fetch(address.parse()?, time(seconds)?)?]),
        ["ask", address, seconds] => figures(&[tcp::ask(address.parse()?, time(seconds)?)?]),
        ["names", address, seconds, in_flight, ref names @ ..] if !names.is_empty() => {
            let found = dns::ask(address.parse()?, time(seconds)?, in_flight.parse()?, names)?;
            figures(&[found.rate, found.median, found.p99, found.lost])
        }
        _ => Err(USAGE.into()),
    }
}

fn time(seconds: &str) -> Result<Duration> {
    let time = Duration::try_from_secs_f64(seconds.parse()?)?;
    // Whoever starts it waits.
    if time > Duration::from_secs(60) { Err("at most 60 seconds".into()) } else { Ok(time) }
}

fn figures(numbers: &[f64]) -> Result<()> {
    println!("{}", numbers.iter().map(|number| format!("{number:.3}")).collect::<Vec<_>>().join(" "));
    Ok(())
}
