//! The registry through its API, byte by byte. One program, so that it links once; a file per subject.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests talk to whoever runs them")]

mod access;
mod client;
mod collection;
mod crash;
mod deletion;
mod hostile;
mod http;
mod lists;
mod multiplexed;
mod pull;
mod push;
mod quotas;
mod support;
mod tokens;
mod uploads;
mod upstreams;

/// Not a test: with its variable set this program is the server of [`support::Process`].
#[test]
fn server_process() {
    let Some(root) = std::env::var_os(support::PROCESS_ROOT) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut config = registry::Config::new("127.0.0.1:0".parse().unwrap(), root.into());
        config.collect_every = None;
        let server = registry::Server::start(config).await.expect("the registry starts");
        println!("listening on {}", server.address().unwrap());
        // Nobody stops it but by killing it.
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        server.serve(stopped).await;
    });
}
