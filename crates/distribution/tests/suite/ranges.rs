//! Several ranges of a blob at a time: the same blob comes out, whatever the server makes of the requests.

use crate::support::*;
use bytes::Bytes;
use distribution::{
    Chunk, Client, Config, ContentSink, Descriptor, LayerStream, Limits, Parts, PullRequest, Ranges, SinkError,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use types::{DiffId, Digest, Kind};

const PIECE: u64 = 64 << 10;
const SIZE: usize = 3 << 20;

fn content() -> Vec<u8> {
    (0..SIZE as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn ranges() -> Ranges {
    Ranges { at_once: 4, size: PIECE, in_all: 6, from: 1, below: u64::MAX, probe: Duration::ZERO }
}

fn eager(ranges: Ranges) -> Client {
    let limits = Limits {
        attempts: 3,
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        idle: Duration::from_millis(500),
        ranges,
        ..Limits::default()
    };
    Client::new(Config { limits, ..Config::default() })
}

/// The range a request asks for; the end is that of the blob when it is open.
fn asked(seen: &Seen) -> Option<(usize, usize)> {
    let (first, last) = seen.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().unwrap(), last.parse().map_or(SIZE, |last: usize| last + 1)))
}

fn part(start: usize, end: usize) -> Reply {
    Reply { status: 206, ..Reply::ok(content()[start..end].to_vec()) }
        .header("Content-Range", format!("bytes {start}-{}/{SIZE}", end - 1))
}

fn whole() -> Reply {
    Reply::ok(content()).header("Accept-Ranges", "bytes")
}

fn honest(seen: &Seen) -> Reply {
    asked(seen).map_or_else(whole, |(start, end)| part(start, end))
}

/// A registry with one layer, whose requests are answered by `answer`.
async fn serve(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Server, String) {
    let image = Image::new(vec![content()]);
    let path = format!("/v2/app/blobs/{}", sha256(&content()));
    let blob = path.clone();
    let server = Server::start(move |seen| if seen.path() == blob { answer(seen) } else { image.serve(seen) }).await;
    (server, path)
}

async fn pulled(client: &Client, server: &Server) -> bool {
    let sink = Arc::new(MemorySink::default());
    client.pull(&request(server, "app:1"), sink.clone(), |_| ()).await.unwrap();
    sink.layers.lock().unwrap().get(&sha256(&content())).is_some_and(|layer| *layer == content())
}

fn bounded(seen: &[Seen]) -> Vec<(usize, usize)> {
    let closed = seen.iter().filter(|seen| seen.headers.get("range").is_some_and(|range| !range.ends_with('-')));
    closed.filter_map(asked).collect()
}

#[tokio::test]
async fn ranges_follow_each_other_to_the_end() {
    let (server, path) = serve(honest).await;
    assert!(pulled(&eager(ranges()), &server).await);
    let seen = server.seen_path(&path);
    let mut asked = bounded(&seen);
    asked.sort_unstable();
    assert_eq!(asked.len() + 1, seen.len(), "{asked:?}");
    assert!(asked.len() > 30 && asked.iter().all(|(start, end)| (end - start) as u64 <= PIECE), "{asked:?}");
    assert!(asked.windows(2).all(|pair| pair[0].1 == pair[1].0), "{asked:?}");
    assert_eq!(asked.last().unwrap().1, SIZE);
    assert!(server.connections() > 2, "{}", server.connections());
}

#[tokio::test]
async fn one_stream_where_it_is_fast_or_the_blob_small_or_the_server_silent() {
    type Case = (Ranges, fn(&Seen) -> Reply);
    let all: [Case; 4] = [
        (Ranges { below: 1, ..ranges() }, honest),
        (Ranges { from: SIZE as u64 + 1, ..ranges() }, honest),
        (Ranges { at_once: 1, ..ranges() }, honest),
        (ranges(), |_| Reply::ok(content())),
    ];
    for (rules, answer) in all {
        let (server, path) = serve(answer).await;
        assert!(pulled(&eager(rules.clone()), &server).await);
        assert_eq!(server.seen_path(&path).len(), 1, "{rules:?}");
    }
}

#[tokio::test]
async fn other_downloads_may_have_all_the_ranges() {
    let (server, path) = serve(honest).await;
    assert!(pulled(&eager(Ranges { in_all: 0, ..ranges() }), &server).await);
    assert_eq!(server.seen_path(&path).len(), 1);
    let (server, path) = serve(honest).await;
    assert!(pulled(&eager(Ranges { in_all: 1, ..ranges() }), &server).await);
    assert!(!bounded(&server.seen_path(&path)).is_empty());
}

#[tokio::test]
async fn a_server_that_only_says_so_is_left_to_its_one_stream() {
    let (server, path) = serve(|_| whole()).await;
    assert!(pulled(&eager(ranges()), &server).await);
    let seen = server.seen_path(&path);
    assert_eq!(seen.iter().filter(|seen| !seen.headers.contains_key("range")).count(), 1);
    assert!(seen.len() <= 4, "{}", seen.len());
}

#[tokio::test]
async fn whatever_else_comes_instead_of_a_range() {
    type Case = (&'static str, fn(usize, usize) -> Reply);
    let wrong: [Case; 9] = [
        ("all of it", |_, _| whole()),
        ("a range elsewhere", |start, end| part(start - 1, end - 1)),
        ("a range that overlaps", |start, end| part(start - 100, end)),
        ("more than was asked for", |start, _| part(start, SIZE)),
        ("more than it says", |start, end| Reply { body: content()[start..].to_vec(), ..part(start, end) }),
        ("a range of another blob", |start, end| {
            Reply { headers: Vec::new(), ..part(start, end) }
                .header("Content-Range", format!("bytes {start}-{}/{}", end - 1, SIZE + 1))
        }),
        ("no word of which", |start, end| Reply { headers: Vec::new(), ..part(start, end) }),
        ("a refusal", |_, _| Reply::status(403)),
        ("too many", |_, _| Reply::status(429).header("Retry-After", "0")),
    ];
    for (what, answer) in wrong {
        // From the start, and after it went well for a while.
        for good in [0, 10] {
            let count = AtomicUsize::new(0);
            let (server, path) = serve(move |seen| match asked(seen) {
                Some((start, end)) if end - start <= PIECE as usize && count.fetch_add(1, Ordering::SeqCst) >= good => {
                    answer(start, end)
                }
                _ => honest(seen),
            })
            .await;
            assert!(pulled(&eager(ranges()), &server).await, "{what} after {good}");
            assert!(server.seen_path(&path).len() > good, "{what} after {good}");
        }
    }
}

#[tokio::test]
async fn ranges_that_break_or_come_short_are_completed() {
    let count = AtomicUsize::new(0);
    let (server, _) = serve(move |seen| match asked(seen) {
        Some((start, end)) => match count.fetch_add(1, Ordering::SeqCst) % 5 {
            1 => Reply { cut: Some((end - start) / 2), ..part(start, end) },
            2 => part(start, start + (end - start).div_ceil(3)),
            3 => Reply::status(503).header("Retry-After", "0"),
            _ => part(start, end),
        },
        None => whole(),
    })
    .await;
    assert!(pulled(&eager(ranges()), &server).await);
}

#[tokio::test]
async fn a_signed_address_is_asked_until_it_is_no_longer_good() {
    let image = Image::new(vec![content()]);
    let uses: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let storage = Server::start(move |seen| {
        let mut uses = uses.lock().unwrap();
        let count = uses.entry(seen.target.clone()).or_default();
        *count += 1;
        // Each address is good for ten requests.
        if *count > 10 { Reply::status(403) } else { honest(seen) }
    })
    .await;
    let signed = AtomicUsize::new(0);
    let to = storage.url("/signed");
    let path = format!("/v2/app/blobs/{}", sha256(&content()));
    let blob = path.clone();
    let server = Server::start(move |seen| match seen.path() == blob {
        true => Reply::redirect(format!("{to}?n={}", signed.fetch_add(1, Ordering::SeqCst))),
        false => image.serve(seen),
    })
    .await;
    let client = eager(ranges());
    let sink = Arc::new(MemorySink::default());
    client.pull(&request(&server, "app:1"), sink.clone(), |_| ()).await.unwrap();
    assert_eq!(sink.layers.lock().unwrap()[&sha256(&content())], content());
    let (signed, direct) = (server.seen_path(&path).len(), storage.seen().len());
    assert!(signed < direct / 2, "{signed} of {direct}");
    assert!(storage.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

/// Keeps what comes, also of what is abandoned.
#[derive(Default)]
struct Prefix(Arc<Mutex<Vec<u8>>>);

impl ContentSink for Prefix {
    fn has_layer(&self, _: &Descriptor, _: &DiffId) -> bool {
        false
    }

    fn has_document(&self, _: &Digest) -> bool {
        false
    }

    async fn document(&self, _: &Descriptor, _: Bytes) -> Result<(), SinkError> {
        Ok(())
    }

    async fn layer(&self, _: &Descriptor, _: DiffId) -> Result<LayerStream, SinkError> {
        let kept = self.0.clone();
        let offset = kept.lock().unwrap().len() as u64;
        let (chunks, mut receiver) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            while let Some(chunk) = receiver.recv().await {
                match chunk {
                    Chunk::Data(data) => kept.lock().unwrap().extend_from_slice(&data),
                    Chunk::End => return Ok(()),
                }
            }
            Err(SinkError { kind: Kind::Cancelled, message: "abandoned".into() })
        });
        let done = Box::pin(async move { task.await.unwrap() });
        Ok(LayerStream { chunks, done, verifies: true, offset })
    }
}

#[tokio::test]
async fn what_is_kept_of_a_broken_pull_is_the_beginning() {
    let broken = Arc::new(AtomicUsize::new(1));
    let (limit, count) = (broken.clone(), AtomicUsize::new(0));
    let (server, path) = serve(move |seen| match asked(seen) {
        // The tenth range and whatever comes after it never arrives.
        Some((start, end)) if limit.load(Ordering::SeqCst) == 1 => match count.fetch_add(1, Ordering::SeqCst) {
            0..10 => part(start, end),
            _ => Reply { cut: Some(0), ..part(start, end) },
        },
        _ => honest(seen),
    })
    .await;
    let (client, sink) = (eager(ranges()), Arc::new(Prefix::default()));
    let request: PullRequest = request(&server, "app:1");
    client.pull(&request, sink.clone(), |_| ()).await.unwrap_err();
    let kept = sink.0.lock().unwrap().clone();
    assert!(kept.len() > 4 * PIECE as usize && kept.len() < SIZE, "{}", kept.len());
    assert_eq!(kept, content()[..kept.len()]);

    broken.store(0, Ordering::SeqCst);
    let before = server.seen_path(&path).len();
    client.pull(&request, sink.clone(), |_| ()).await.unwrap();
    assert_eq!(*sink.0.lock().unwrap(), content());
    let resumed = &server.seen_path(&path)[before];
    assert_eq!(resumed.headers["range"], format!("bytes={}-", kept.len()));
}

/// Takes parts of a layer, and the rest of it if that fails.
#[derive(Default)]
struct Patching {
    whole: MemorySink,
    parts: Mutex<Vec<u8>>,
}

const PARTS: [std::ops::Range<u64>; 4] = [10..20, 1000..1000, 5000..5000 + 3 * PIECE, SIZE as u64 - 7..SIZE as u64];

impl ContentSink for Patching {
    fn has_layer(&self, descriptor: &Descriptor, diff_id: &DiffId) -> bool {
        self.whole.has_layer(descriptor, diff_id)
    }

    fn has_document(&self, digest: &Digest) -> bool {
        self.whole.has_document(digest)
    }

    async fn document(&self, descriptor: &Descriptor, bytes: Bytes) -> Result<(), SinkError> {
        self.whole.document(descriptor, bytes).await
    }

    async fn patch(&self, descriptor: &Descriptor, _: DiffId, parts: Parts) -> Result<bool, SinkError> {
        assert_eq!(descriptor.annotations["a"], "b");
        let failed = |error: distribution::Error| SinkError { kind: error.kind(), message: error.to_string() };
        assert_eq!(parts.read(3..8).await.map_err(failed)?, content()[3..8]);
        let (chunks, mut received) = mpsc::channel(2);
        let (streamed, _) = tokio::join!(parts.stream(PARTS.to_vec(), chunks), async {
            while let Some(Chunk::Data(data)) = received.recv().await {
                self.parts.lock().unwrap().extend_from_slice(&data);
            }
        });
        streamed.map_err(failed).map(|()| true)
    }

    async fn layer(&self, descriptor: &Descriptor, diff_id: DiffId) -> Result<LayerStream, SinkError> {
        self.whole.layer(descriptor, diff_id).await
    }
}

/// Pulls a layer with annotations; gives the parts that were fetched, whether all of it was, and the requests.
async fn patched(answer: fn(&Seen) -> Reply, ranges: Ranges) -> (Vec<u8>, bool, Vec<Seen>) {
    let mut image = Image::new(vec![content()]);
    let manifest = String::from_utf8(image.manifest).unwrap();
    let digest = sha256(&content());
    let plain = format!(r#""digest":"{digest}""#);
    image.manifest = manifest.replace(&plain, &format!(r#""annotations":{{"a":"b"}},{plain}"#)).into_bytes();
    let path = format!("/v2/app/blobs/{digest}");
    let blob = path.clone();
    let server = Server::start(move |seen| if seen.path() == blob { answer(seen) } else { image.serve(seen) }).await;
    let sink = Arc::new(Patching::default());
    eager(ranges).pull(&request(&server, "app:1"), sink.clone(), |_| ()).await.unwrap();
    let whole = sink.whole.layers.lock().unwrap().get(&digest).is_some_and(|layer| *layer == content());
    let parts = sink.parts.lock().unwrap().clone();
    (parts, whole, server.seen_path(&path))
}

#[tokio::test]
async fn a_sink_may_take_parts_of_a_layer() {
    let expected: Vec<u8> = PARTS.iter().flat_map(|r| content()[r.start as usize..r.end as usize].to_vec()).collect();
    for in_all in [1, 6] {
        let (parts, whole, seen) = patched(several, Ranges { in_all, ..ranges() }).await;
        assert!(parts == expected && !whole);
        // Pieces of 64 KiB, of one range or of two; the empty one not at all.
        assert_eq!(seen.len(), 1 + 4, "{:?}", seen.iter().map(|seen| &seen.headers["range"]).collect::<Vec<_>>());
    }
    // Servers that give one at a time, or say so in some other way.
    let others: [fn(&Seen) -> Reply; 6] = [
        honest,
        |seen| if several_of(seen).len() > 1 { Reply::status(416) } else { several(seen) },
        |seen| if several_of(seen).len() > 1 { whole() } else { several(seen) },
        // The second part is missing, is another, or is the same.
        |seen| multipart(several_of(seen).into_iter().take(1).collect()),
        |seen| multipart(several_of(seen).into_iter().enumerate().map(|(n, (a, b))| (a + n, b + n)).collect()),
        |seen| match several_of(seen)[..] {
            [first, _, ..] => multipart(vec![first; 2]),
            _ => several(seen),
        },
    ];
    for (number, answer) in others.into_iter().enumerate() {
        let (parts, whole, _) = patched(answer, ranges()).await;
        assert!(parts == expected && !whole, "{number}");
    }
    // An answer that breaks off is asked for again where it did.
    let (parts, whole, seen) = patched(
        |seen| match several_of(seen).as_slice() {
            [(10, _), ..] => Reply { cut: Some(200), ..several(seen) },
            _ => several(seen),
        },
        ranges(),
    )
    .await;
    assert!(parts == expected && !whole && seen.len() > 1 + 4);
}

/// All ranges a request asks for.
fn several_of(seen: &Seen) -> Vec<(usize, usize)> {
    let text = seen.headers.get("range").and_then(|range| range.strip_prefix("bytes=")).unwrap_or_default();
    let range = |text: &str| {
        let (first, last) = text.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<usize>().map_or(SIZE, |last| last + 1)))
    };
    text.split(',').filter_map(range).collect()
}

/// Answers as Go's library does.
fn several(seen: &Seen) -> Reply {
    multipart(several_of(seen))
}

fn multipart(ranges: Vec<(usize, usize)>) -> Reply {
    match ranges[..] {
        [] => whole(),
        [(start, end)] => part(start, end),
        _ => {
            let mut body = Vec::new();
            for (start, end) in ranges {
                let head = format!(
                    "\r\n--xyz\r\nContent-Type: x/y\r\nContent-Range: bytes {start}-{}/{SIZE}\r\n\r\n",
                    end - 1
                );
                body.extend(head.into_bytes());
                body.extend(&content()[start..end.min(SIZE)]);
            }
            body.extend(b"\r\n--xyz--\r\n");
            Reply { status: 206, ..Reply::ok(body) }.header("Content-Type", "multipart/byteranges; boundary=xyz")
        }
    }
}

#[tokio::test]
async fn a_layer_whose_parts_cannot_be_had_comes_as_a_whole() {
    let answers: [fn(&Seen) -> Reply; 3] = [
        |_| whole(),
        |seen| if asked(seen).is_some() { Reply::status(416) } else { whole() },
        // Another part than was asked for.
        |seen| asked(seen).map_or_else(whole, |(start, end)| part(start + 1, (end + 1).min(SIZE))),
    ];
    for answer in answers {
        let (_, whole, _) = patched(answer, ranges()).await;
        assert!(whole);
    }
}
