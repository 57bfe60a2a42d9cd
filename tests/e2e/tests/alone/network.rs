//! The bridge, published ports and the rules behind them, with whatever nf_tables this kernel has.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{engine, eventually};

const SERVE: &str = "mkdir -p /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w";

fn fetch(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn containers_reach_each_other_and_are_reached() {
    let Some((mut daemon, dhow)) = engine(true) else { return };
    dhow.run(&["run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", SERVE]);
    let bridge = dhow.inspect("web")["NetworkSettings"]["Networks"]["bridge"].clone();
    let (address, gateway) = (bridge["IPAddress"].as_str().unwrap(), bridge["Gateway"].as_str().unwrap());
    assert!(dhow.run(&["exec", "web", "ip", "route"]).contains(&format!("default via {gateway}")));
    let at = dhow.run(&["port", "web", "80/tcp"]);
    let answers = || fetch(&at).is_some_and(|text| text.contains("hello"));
    eventually("an answer through the published port", answers);
    let url = format!("http://{address}/");
    assert_eq!(dhow.run(&["run", "--rm", "busybox", "wget", "-qO-", &url]), "hello");
    let stats = dhow.run(&["stats", "--no-stream", "--format", "{{.NetIO}}", "web"]);
    assert!(!stats.starts_with("0B"), "{stats}");

    daemon.kill();
    assert!(answers(), "ports are kernel rules and outlive the daemon");
    daemon.launch();
    assert!(answers());
    assert_eq!(dhow.run(&["port", "web", "80/tcp"]), at);
    dhow.run(&["rm", "-f", "web"]);
    assert!(fetch(&at).is_none(), "the port goes with its container");
}
