//! The registry through its API, byte by byte. One program, so that it links once; a file per subject.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tests talk to whoever runs them")]
#![cfg_attr(not(feature = "buckets"), allow(dead_code, reason = "a part of what servers are told is for buckets"))]

mod access;
#[cfg(feature = "buckets")]
mod bucket;
#[cfg(feature = "buckets")]
mod buckets;
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
    let given = |name: &str| std::env::var(format!("REGISTRY_TEST_{name}")).ok().filter(|value| !value.is_empty());
    let mut config = registry::Config::new("127.0.0.1:0".parse().unwrap(), root.into());
    config.collect_every = None;
    config.storage = given("STORAGE").map(|text| registry::BucketAddress::parse(&text).unwrap());
    config.quotas = given("QUOTAS").map_or(Vec::new(), |text| registry::Quota::parse_list(&text).unwrap());
    config.upstreams = given("UPSTREAMS").map_or(Vec::new(), |text| registry::Upstream::parse_list(&text).unwrap());
    config.read_only = given("READ_ONLY").is_some();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = match registry::Server::start(config).await {
            Ok(server) => server,
            Err(e) => return println!("refused: {e}"),
        };
        println!("listening on {}", server.address().unwrap());
        let control = server.control();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let serving = tokio::spawn(server.serve(stopped));
        // Orders come line by line; most servers get none and are killed.
        let (orders, mut taken) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            std::io::stdin().lines().map_while(Result::ok).all(|line| orders.send(line).is_ok())
        });
        while let Some(order) = taken.recv().await {
            match order.strip_prefix("collect ").map(|seconds| seconds.parse().unwrap()) {
                Some(seconds) => match control.collect(std::time::Duration::from_secs(seconds)).await {
                    Some(done) => println!("collected {} {} {}", done.links, done.blobs, done.bytes),
                    None => println!("collected nothing"),
                },
                None => break,
            }
        }
        // Also where nobody is there any more who could give orders.
        stop.send(true).unwrap();
        serving.await.unwrap();
        println!("stopped");
    });
}
