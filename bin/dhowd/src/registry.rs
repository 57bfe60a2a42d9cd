//! `dhowd registry serve`: a registry in a process of its own, in the foreground, without an engine.
//!
//! It is here because everything it is made of is linked here already. `dhow registry serve` passes its flags on, so
//! this table has the same ones; a test holds the two together. SIGTERM and SIGINT end it after the requests in
//! progress, SIGHUP has the password file, the access file and the
//! certificate read again, SIGUSR1 collects garbage now.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ::registry::{BucketAddress, Config, Quota, Server, Upstream};
use anyhow::{Context, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use types::GoDuration;

fn command() -> Command {
    let text = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    let duration = |name, help, default| text(name, help).value_parser(parse_duration).default_value(default);
    let file = |name, help| text(name, help).value_parser(value_parser!(PathBuf));
    let switch = text("read-only", "Refuse everything that changes content").action(ArgAction::Set);
    let switch = switch.num_args(0..=1).require_equals(true).default_missing_value("true").default_value("false");
    let serve = Command::new("serve").about("Serve a registry of images and artifacts").args([
        file("access", "File that says who may do what in which repositories; turns tokens on"),
        text("addr", "Address to listen on").default_value("127.0.0.1:5000"),
        duration("gc-grace", "Keep what no manifest refers to for so long", "24h"),
        duration("gc-interval", "Time between two garbage collections; 0 for none", "24h"),
        file("htpasswd", "Let in only the users of this file (bcrypt, as of 'htpasswd -B')"),
        text("log-level", "debug, info, warn or error").default_value("info"),
        text("max-uploads", "Uploads open at once").value_parser(value_parser!(u32).range(1..)).default_value("1024"),
        text("metrics-addr", "Address to serve /metrics on; none when not given"),
        text("public-url", "Where clients reach the registry, as 'https://host'; what they ask for when not given"),
        text("quota", "Most bytes stored, in all and below names: '100g,team=10g'"),
        switch.value_parser(value_parser!(bool)),
        file("root", "Directory of everything the registry keeps").default_value("/var/lib/dhow-registry"),
        text("storage", "Bucket to keep content in, 's3://bucket/prefix', gs:// or az://; --root when not given"),
        file("tls-cert", "Certificate chain to serve TLS with (PEM)").requires("tls-key"),
        file("tls-key", "Private key of the certificate (PEM)").requires("tls-cert"),
        text("upstream", "Registries to pull through: 'docker.io', or below names 'hub=docker.io,lan=reg.lan:5000'"),
        file("upstream-logins", "Logins for them, a config.json of 'docker login'").requires("upstream"),
        duration("upload-timeout", "End uploads that no client works on for so long", "1h"),
    ]);
    Command::new("registry")
        .bin_name("dhowd registry")
        .about("Serve images to others")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
}

/// Go's form, `1h30m`; 0 or more.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let nanos = text.parse::<GoDuration>().map_err(|e| e.to_string())?.nanos();
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| "it is negative".to_owned())
}

/// Runs with the arguments that follow the program's name.
pub fn main(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(e) => e.exit(),
    };
    let Some(("serve", matches)) = matches.subcommand() else { return ExitCode::FAILURE };
    match run(matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => crate::fail(&format!("{e:#}")),
    }
}

fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let found =
        text.to_socket_addrs().with_context(|| format!("cannot understand the address {text:?}; use HOST:PORT"))?;
    found.into_iter().next().with_context(|| format!("the name in {text:?} has no address"))
}

fn config(matches: &ArgMatches) -> anyhow::Result<Config> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let duration = |name: &str| matches.get_one::<Duration>(name).copied().unwrap_or_default();
    let mut config = Config::new(address(text("addr").unwrap_or_default())?, path("root").unwrap_or_default());
    if let Some(address) = text("storage") {
        config.storage =
            Some(BucketAddress::parse(address).map_err(|why| anyhow!("cannot understand --storage: {why}"))?);
    }
    config.tls = path("tls-cert").zip(path("tls-key"));
    config.passwords = path("htpasswd");
    config.access = path("access");
    config.public_url = text("public-url").map(str::to_owned);
    if config.public_url.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        bail!("--public-url must begin with https:// or http://");
    }
    if let Some(list) = text("quota") {
        config.quotas = Quota::parse_list(list).map_err(|why| anyhow!("cannot understand --quota: {why}"))?;
    }
    if let Some(list) = text("upstream") {
        config.upstreams = Upstream::parse_list(list).map_err(|why| anyhow!("cannot understand --upstream: {why}"))?;
    }
    if let Some(logins) = path("upstream-logins") {
        Upstream::read_logins(&mut config.upstreams, &logins)?;
    }
    config.metrics = text("metrics-addr").map(address).transpose()?;
    config.read_only = matches.get_one::<bool>("read-only").copied().unwrap_or(false);
    config.grace = duration("gc-grace");
    config.collect_every = Some(duration("gc-interval")).filter(|every| !every.is_zero());
    config.limits.uploads = matches.get_one::<u32>("max-uploads").map_or(1024, |n| *n as usize);
    config.limits.upload_idle = duration("upload-timeout");
    if config.grace < Duration::from_secs(1) {
        bail!("--gc-grace must be 1s or more: a client pushes blobs before the manifest that refers to them");
    }
    if config.limits.upload_idle < Duration::from_secs(1) {
        bail!("--upload-timeout must be 1s or more");
    }
    Ok(config)
}

fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let config = config(matches)?;
    // What it keeps is its own, whoever starts it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    crate::start_log(matches.get_one::<String>("log-level").map_or("info", String::as_str), true);
    crate::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(crate::BLOCKING_THREADS)
        .thread_name("registry")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    let mut collect = signal(SignalKind::user_defined1()).context("cannot handle SIGUSR1")?;
    let (scheme, grace) = (if config.tls.is_some() { "https" } else { "http" }, config.grace);
    let server = Server::start(config).await?;
    // The one line of standard output: with port 0 it is how the address is learnt.
    writeln!(std::io::stdout(), "listening on {scheme}://{}", server.address()?)?;
    if let Some(address) = server.metrics_address() {
        tracing::info!("metrics are at http://{address}/metrics");
    }
    let control = server.control();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.serve(stopped));
    crate::notify::notify("READY=1");
    let signalled = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hangup.recv() => match control.reload().await {
                Ok(()) => tracing::info!("passwords, access and certificate were read again"),
                Err(e) => tracing::error!("nothing was changed: {e}"),
            },
            _ = collect.recv() => {
                let control = control.clone();
                tokio::spawn(async move { control.collect(grace).await });
            }
        }
    };
    tracing::info!("stopping on {signalled}");
    crate::notify::notify("STOPPING=1");
    let _ = stop.send(true);
    serving.await.context("the server failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Config> {
        let matches = command().try_get_matches_from(line.split_whitespace())?;
        config(matches.subcommand().expect("serve").1)
    }

    #[test]
    fn flags() {
        let plain = parse("registry serve").unwrap();
        assert_eq!((plain.address.to_string().as_str(), plain.read_only), ("127.0.0.1:5000", false));
        assert_eq!(plain.collect_every, Some(Duration::from_secs(24 * 3600)));
        let all = "registry serve --access=/a --quota=1g,a=1m --upstream=hub=docker.io --public-url=https://r --addr=127.0.0.1:0 --gc-grace=2s --gc-interval=0 --htpasswd=/h --log-level=warn \
             --max-uploads=3 --metrics-addr=127.0.0.1:1 --read-only=true --root=/r --storage=s3://b/p --tls-cert=/c --tls-key=/k \
             --upload-timeout=1m30s";
        let config = parse(all).unwrap();
        assert_eq!((config.collect_every, config.grace), (None, Duration::from_secs(2)));
        assert_eq!((config.quotas.len(), config.upstreams.len()), (2, 1));
        assert_eq!(config.storage.map(|address| address.to_string()).as_deref(), Some("s3://b/p"));
        assert!(config.access.is_some() && config.public_url.as_deref() == Some("https://r"));
        assert!(config.read_only && config.tls.is_some() && config.metrics.is_some() && config.passwords.is_some());
        assert_eq!((config.limits.uploads, config.limits.upload_idle), (3, Duration::from_secs(90)));
        for bad in [
            "--addr=x",
            "--public-url=registry.test",
            "--gc-grace=0",
            "--gc-grace=-1h",
            "--upload-timeout=0",
            "--tls-cert=/c",
            "--max-uploads=0",
            "--quota=1x",
            "--upstream=hub",
            "--read-only=maybe",
            "--storage=/srv",
            "--storage=s3://",
            "word",
        ] {
            assert!(parse(&format!("registry serve {bad}")).is_err(), "{bad}");
        }
    }
}
