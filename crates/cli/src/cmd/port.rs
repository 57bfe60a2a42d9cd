//! `port`: where the ports of a container are published.

use super::container_path;
use crate::{
    Error, Result,
    flags::{Arity, Command, Parsed},
    format::Value,
    session::Session,
    term::output::print,
};

pub(super) static PORT: Command = Command {
    paths: &["container port", "port"],
    synopsis: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "Show where ports of a container are published",
    flags: &[],
    arity: Arity::Between(1, 2),
    interspersed: true,
    run: port,
};

fn port(parsed: &Parsed, session: &Session) -> Result<u8> {
    let info: Value = session.client()?.get(container_path(parsed.first(), "/json")).send()?.json()?;
    let ports = info.at(&["NetworkSettings", "Ports"]);
    let place = |binding: &Value| {
        let ip = binding.str("HostIp");
        if ip.contains(':') {
            format!("[{ip}]:{}", binding.str("HostPort"))
        } else {
            format!("{ip}:{}", binding.str("HostPort"))
        }
    };
    if let Some(wanted) = parsed.args.get(1) {
        let key = if wanted.contains('/') { wanted.clone() } else { format!("{wanted}/tcp") };
        let bindings = ports.get(&key).items();
        if bindings.is_empty() {
            return Err(Error::new(format!("Error: No public port '{wanted}' published for {}", parsed.first())));
        }
        print(&bindings.iter().map(|one| place(one) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let mut lines: Vec<(u32, String)> = Vec::new();
    for (name, bindings) in ports.entries() {
        let number = name.split('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        lines.extend(bindings.items().iter().map(|one| (number, format!("{name} -> {}\n", place(one)))));
    }
    lines.sort();
    print(&lines.into_iter().map(|(_, line)| line).collect::<String>())?;
    Ok(0)
}
