//! Pulling through the façade from a registry in this file. Needs root, `/bin/busybox` and a built
//! `dhow-shim`; says so and passes where they are missing.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Host, host};
use docker_types::message::JsonMessage;
use engine::PullOptions;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use types::Kind;

type Contents = Arc<std::sync::Mutex<HashMap<String, Vec<u8>>>>;

/// What `docker save` gave, served as a registry serves it. A path mapped to `stall` answers half.
struct Registry {
    address: String,
    contents: Contents,
}

impl Registry {
    async fn of(host: &Host) -> Registry {
        let mut archive = Vec::new();
        let mut bytes = host.engine().image_save(vec!["busybox".into()], Vec::new()).await.unwrap();
        while let Some(chunk) = bytes.next().await {
            archive.extend_from_slice(&chunk.unwrap());
        }
        let mut contents = HashMap::new();
        let mut index = serde_json::Value::Null;
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(hex) = path.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
                contents.insert(format!("/v2/box/blobs/sha256:{hex}"), bytes);
            } else if path == "index.json" {
                index = serde_json::from_slice(&bytes).unwrap();
            }
        }
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let manifest = contents[&format!("/v2/box/blobs/{digest}")].clone();
        contents.insert("/v2/box/manifests/1".into(), manifest);
        contents.insert("/v2/".into(), b"{}".to_vec());
        let contents: Contents = Arc::new(std::sync::Mutex::new(contents));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::clone(&contents);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let contents = Arc::clone(&shared);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match client.read_u8().await {
                            // A TLS handshake begins with this byte: there is none to be had here.
                            Err(_) | Ok(0x16) => return,
                            Ok(byte) => head.push(byte),
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let found = contents.lock().unwrap().get(&path).cloned();
                    let stall = contents.lock().unwrap().contains_key(&format!("stall {path}"));
                    let (status, body) = found.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
                    let kind = if path.contains("/manifests/") {
                        "application/vnd.oci.image.manifest.v1+json"
                    } else {
                        "application/octet-stream"
                    };
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = client.write_all(head.as_bytes()).await;
                    if stall {
                        let _ = client.write_all(&body[..body.len() / 2]).await;
                        tokio::time::sleep(Duration::from_secs(600)).await;
                    }
                    let _ = client.write_all(&body).await;
                });
            }
        });
        Registry { address, contents }
    }

    /// Path of the largest blob: the layer.
    fn layer(&self) -> String {
        let contents = self.contents.lock().unwrap();
        contents.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0.clone()
    }

    fn options(&self) -> PullOptions {
        PullOptions { reference: format!("{}/box:1", self.address), ..PullOptions::default() }
    }
}

async fn pull(host: &Host, options: PullOptions) -> engine::Result<Vec<JsonMessage>> {
    let mut messages = host.engine().image_pull(options).await?;
    let mut out = Vec::new();
    while let Some(message) = messages.next().await {
        out.push(message);
    }
    Ok(out)
}

fn content(host: &Host) -> BTreeSet<String> {
    let data = &host.config.data_root;
    let dirs = ["content/blobs/sha256", "content/ingest", "layers"].map(|dir| data.join(dir));
    let names = dirs.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap().flatten());
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

async fn empty(host: &Host) {
    host.engine().image_remove("busybox", true, false).await.unwrap();
    assert_eq!(content(host), BTreeSet::from(["empty".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_comes_once() {
    let Some(host) = host().await else { return };
    let registry = Registry::of(&host).await;
    let id = host.engine().image_inspect("busybox", false, None).await.unwrap().id;
    empty(&host).await;
    let (first, second) = tokio::join!(pull(&host, registry.options()), pull(&host, registry.options()));
    let mut last: Vec<String> = [first, second].map(|m| m.unwrap().pop().unwrap().status).into();
    last.sort();
    let name = format!("{}/box:1", registry.address);
    assert_eq!(last[0], format!("Status: Downloaded newer image for {name}"));
    assert_eq!(last[1], format!("Status: Image is up to date for {name}"));
    assert_eq!(host.engine().image_inspect(&name, false, None).await.unwrap().id, id);
    let messages = pull(&host, registry.options()).await.unwrap();
    assert_eq!((messages[0].status.as_str(), messages[0].id.as_str()), ("Pulling from box", "1"));
    assert!(messages.iter().any(|m| m.status == format!("Digest: {id}")));
    let (code, out, _) = host.run(&["echo", "pulled"], |config, _| config.image = name.clone()).await;
    assert_eq!((code, out.as_str()), (0, "pulled\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_layer_leaves_nothing() {
    let Some(host) = host().await else { return };
    let registry = Registry::of(&host).await;
    empty(&host).await;
    let layer = registry.layer();
    registry.contents.lock().unwrap().get_mut(&layer).map(|bytes| bytes[700] ^= 1).unwrap();
    let messages = pull(&host, registry.options()).await.unwrap();
    assert_eq!(messages[0].status, "Pulling from box");
    assert!(!messages.last().unwrap().error.is_empty(), "{messages:?}");
    assert_eq!(content(&host), BTreeSet::from(["empty".to_owned()]));
    let nosuch = PullOptions { reference: format!("{}/box:nosuch", registry.address), ..PullOptions::default() };
    let error = pull(&host, nosuch).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_stops_the_pull() {
    let Some(host) = host().await else { return };
    let registry = Registry::of(&host).await;
    empty(&host).await;
    let stalled = format!("stall {}", registry.layer());
    registry.contents.lock().unwrap().insert(stalled.clone(), Vec::new());
    let mut messages = host.engine().image_pull(registry.options()).await.unwrap();
    while left_of_blobs(&host) == 0 {
        messages.next().await.unwrap();
    }
    drop(messages);
    let clean = BTreeSet::from(["empty".to_owned()]);
    for _ in 0..500 {
        if content(&host) == clean {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(content(&host), clean);
    assert_ne!(left_of_blobs(&host), 0, "what came is kept for the next pull");
    // And the way is free for the next one.
    registry.contents.lock().unwrap().remove(&stalled);
    assert!(pull(&host, registry.options()).await.unwrap().last().unwrap().status.starts_with("Status: Downloaded"));
    assert_eq!(left_of_blobs(&host), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_of_an_earlier_pull_do_no_harm() {
    let Some(host) = host().await else { return };
    let registry = Registry::of(&host).await;
    empty(&host).await;
    let layer = registry.layer();
    let digest = layer.rsplit_once(':').unwrap().1;
    std::fs::write(host.config.data_root.join("content/partial").join(digest), [7; 4096]).unwrap();
    assert!(pull(&host, registry.options()).await.unwrap().last().unwrap().status.starts_with("Status: Downloaded"));
    assert_eq!(left_of_blobs(&host), 0);
}

/// Bytes of blobs that are not whole.
fn left_of_blobs(host: &Host) -> u64 {
    let entries = std::fs::read_dir(host.config.data_root.join("content/partial")).unwrap().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Offer a document as a blob; gives its digest.
fn publish(registry: &Registry, text: &str) -> String {
    let digest = sha256(text.as_bytes());
    registry.contents.lock().unwrap().insert(format!("/v2/box/blobs/{digest}"), text.as_bytes().to_vec());
    digest
}

fn sha256(bytes: &[u8]) -> String {
    types::Digest::sha256(layer::digest::sha256(bytes)).to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // One stored block per 65,535 bytes (RFC 1951, 3.2.4) is a valid stream without a compressor.
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut chunks = bytes.chunks(0xffff).peekable();
    while let Some(chunk) = chunks.next() {
        let length = u16::try_from(chunk.len()).unwrap();
        out.push(u8::from(chunks.peek().is_none()));
        out.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
        out.extend(chunk);
    }
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    out.extend((!crc).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_is_here_is_not_another_ones_blob() {
    let Some(host) = host().await else { return };
    let registry = Registry::of(&host).await;
    // Two layers, each by its compressed blob: (blob, bytes of it, layer).
    let layers: Vec<(String, usize, String)> = ["one", "two"]
        .iter()
        .map(|content| {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(3);
            tar.append_data(&mut header, "file", content.as_bytes()).unwrap();
            let plain = tar.into_inner().unwrap();
            let blob = gzip(&plain);
            let digest = sha256(&blob);
            registry.contents.lock().unwrap().insert(format!("/v2/box/blobs/{digest}"), blob.clone());
            (digest, blob.len(), sha256(&plain))
        })
        .collect();
    // A manifest of (blob, claimed bytes) under a configuration of layers.
    let offer = |tag: &str, blobs: &[(&str, usize)], diff_ids: &[&str]| {
        let diff_ids = serde_json::to_string(diff_ids).unwrap();
        let config = format!(
            r#"{{"os":"linux","architecture":"{}","rootfs":{{"type":"layers","diff_ids":{diff_ids}}}}}"#,
            types::Platform::host().arch
        );
        let blobs: Vec<String> = blobs
            .iter()
            .map(|(digest, size)| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{size}}}"#
                )
            })
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}]}}"#,
            publish(&registry, &config),
            config.len(),
            blobs.join(",")
        );
        publish(&registry, &manifest);
        registry.contents.lock().unwrap().insert(format!("/v2/box/manifests/{tag}"), manifest.into_bytes());
    };
    let [(one, one_size, one_layer), (two, two_size, two_layer)] = &layers[..] else { unreachable!() };
    offer("good", &[(one, *one_size), (two, *two_size)], &[one_layer, two_layer]);
    offer("crossed", &[(one, *one_size)], &[two_layer]);
    offer("doubled", &[(one, *one_size), (one, *one_size)], &[one_layer, two_layer]);
    offer("sized", &[(one, one_size + 1)], &[one_layer]);
    offer("again", &[(two, *two_size)], &[two_layer]);
    let get = async |tag: &str| {
        let options = PullOptions { reference: format!("{}/box:{tag}", registry.address), ..PullOptions::default() };
        pull(&host, options).await.unwrap()
    };
    let end = get("good").await.pop().unwrap();
    assert!(end.status.starts_with("Status: Downloaded"), "{end:?}");
    let before = content(&host);
    for tag in ["crossed", "doubled", "sized"] {
        let end = get(tag).await.pop().unwrap();
        assert!(!end.error.is_empty(), "{tag}: {end:?}");
        let name = format!("{}/box:{tag}", registry.address);
        assert_eq!(host.engine().image_inspect(&name, false, None).await.unwrap_err().kind(), Kind::NotFound);
    }
    // What a refused download left is taken away by the thread that unpacked it.
    for _ in 0..500 {
        if content(&host) == before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(content(&host), before);
    let told = get("again").await;
    assert!(told.iter().any(|m| m.status == "Already exists"), "{told:?}");
}
