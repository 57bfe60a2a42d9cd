//! HTTP/2 by negotiation: one connection for many requests, and what becomes of streams and connections that break.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use crate::support::multiplexed::{Act, Multiplexed};
use crate::support::*;
use distribution::{Client, Config, Limits, PullRequest, Ranges};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

async fn start(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Option<Multiplexed> {
    let server = Multiplexed::start(script).await;
    if server.is_none() {
        println!("skipped: openssl is not installed");
    }
    server
}

fn asked(server: &Multiplexed) -> PullRequest {
    let reference = format!("{}/app:1", server.address).parse().unwrap();
    PullRequest { reference, platform: None, credentials: None, current: None }
}

fn layers(count: u8) -> Image {
    Image::new((0..count).map(|n| vec![n; 1_000_000]).collect())
}

fn path_of(layer: &[u8]) -> String {
    format!("/v2/app/blobs/{}", sha256(layer))
}

async fn pulled(client: &Client, server: &Multiplexed, image: &Image) {
    let sink = Arc::new(MemorySink::default());
    client.pull(&asked(server), sink.clone(), |_| ()).await.unwrap();
    for layer in &image.layers {
        assert_eq!(sink.layers.lock().unwrap()[&sha256(layer)], *layer);
    }
}

/// A blob from where a request wants it.
fn from(layer: &[u8], seen: &Seen) -> Reply {
    match seen.headers.get("range").map(|range| range[6..range.len() - 1].parse::<usize>().unwrap()) {
        None => Reply::ok(layer),
        Some(start) => Reply { status: 206, ..Reply::ok(&layer[start..]) }
            .header("content-range", format!("bytes {start}-{}/{}", layer.len() - 1, layer.len())),
    }
}

#[tokio::test]
async fn one_connection_carries_everything() {
    let image = layers(8);
    let content = image.clone();
    let Some(server) = start(move |_, seen| Act::Answer(content.serve(seen))).await else { return };
    pulled(&client(), &server, &image).await;
    assert_eq!(server.connections(), 1);
    let seen = server.seen();
    assert_eq!(seen.len(), 10);
    let authority = server.address.to_string();
    assert!(seen.iter().all(|(_, seen)| seen.headers[":authority"] == authority));
    assert!(seen.iter().all(|(_, seen)| !seen.headers.contains_key("host")));
}

#[tokio::test]
async fn many_at_once_wait_for_the_one_connection() {
    let image = layers(1);
    let content = image.clone();
    let Some(server) = start(move |_, seen| Act::Answer(content.serve(seen))).await else { return };
    let client = client();
    let pulls = (0..8).map(|_| pulled(&client, &server, &image));
    for pull in pulls.map(Box::pin).collect::<Vec<_>>().into_iter().rev() {
        pull.await;
    }
    let together = async |_: ()| {
        tokio::join!(
            pulled(&client, &server, &image),
            pulled(&client, &server, &image),
            pulled(&client, &server, &image)
        );
    };
    together(()).await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_reset_stream_goes_on_where_it_stopped() {
    let image = layers(2);
    let (content, first) = (image.clone(), path_of(&image.layers[0]));
    let count = AtomicUsize::new(0);
    let broken = first.clone();
    let script = move |_: usize, seen: &Seen| {
        if seen.path() != broken {
            return Act::Answer(content.serve(seen));
        }
        let reply = from(&content.layers[0], seen);
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Act::Reset(reply, 300_000),
            1 => Act::Refuse,
            2 => Act::Reset(reply, 200_000),
            _ => Act::Answer(reply),
        }
    };
    let Some(server) = start(script).await else { return };
    pulled(&client(), &server, &image).await;
    let ranges: Vec<_> =
        server.seen_path(&first).iter().filter_map(|(_, seen)| seen.headers.get("range").cloned()).collect();
    assert!(ranges.len() >= 2 && ranges.last().unwrap().as_str() > "bytes=300000-", "{ranges:?}");
}

#[tokio::test]
async fn a_connection_that_ends_takes_nothing_with_it() {
    let image = layers(3);
    let (content, first) = (image.clone(), path_of(&image.layers[0]));
    let script = move |connection: usize, seen: &Seen| match content.layers.iter().find(|l| path_of(l) == seen.path()) {
        None => Act::Answer(content.serve(seen)),
        Some(layer) if connection == 1 && seen.path() == first => Act::GoAway(from(layer, seen), 400_000),
        Some(layer) => Act::Answer(from(layer, seen)),
    };
    let Some(server) = start(script).await else { return };
    pulled(&client(), &server, &image).await;
    assert_eq!(server.connections(), 2);
    let again = server.seen_path(&path_of(&image.layers[0]));
    assert_eq!(again[1].0, 2);
    assert!(again[1].1.headers.contains_key("range"), "{again:?}");
}

#[tokio::test]
async fn ranges_have_connections_of_their_own() {
    let image = Image::new(vec![(0..500_000u32).flat_map(u32::to_le_bytes).collect()]);
    let content = image.clone();
    let script = move |_: usize, seen: &Seen| {
        let Some(range) = seen.headers.get("range").filter(|range| !range.ends_with('-')) else {
            return Act::Answer(content.serve(seen).header("accept-ranges", "bytes"));
        };
        let (start, last) = range[6..].split_once('-').unwrap();
        let (start, last): (usize, usize) = (start.parse().unwrap(), last.parse().unwrap());
        let reply = Reply { status: 206, ..Reply::ok(&content.layers[0][start..=last]) };
        Act::Answer(reply.header("content-range", format!("bytes {start}-{last}/{}", content.layers[0].len())))
    };
    let Some(server) = start(script).await else { return };
    let ranges = Ranges { at_once: 4, size: 64 << 10, in_all: 6, from: 1, below: u64::MAX, probe: Duration::ZERO };
    let client = Client::new(Config { limits: Limits { ranges, ..limits() }, ..Config::default() });
    pulled(&client, &server, &image).await;
    assert_eq!(server.connections(), 4);
    let blob = server.seen_path(&path_of(&image.layers[0]));
    let on = |number: usize| blob.iter().filter(|(connection, _)| *connection == number).count();
    assert!((1..=4).all(|number| on(number) >= 4), "{:?}", (1..=4).map(on).collect::<Vec<_>>());
}
