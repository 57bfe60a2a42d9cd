//! Rules of `hosts.toml` as requests show them: who is asked for what, and told what.

use crate::support::*;
use distribution::{Client, Config, Credentials, Error, Limits};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn ruled(dir: &Path) -> Client {
    let limits = Limits { attempts: 2, backoff: Duration::from_millis(5), ..Limits::default() };
    Client::new(Config { certs_dirs: vec![dir.to_owned()], hosts_files: true, limits, ..Config::default() })
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(dir.join(name)).unwrap();
    std::fs::write(dir.join(name).join("hosts.toml"), text).unwrap();
}

const CHALLENGE: (&str, &str) = ("WWW-Authenticate", "Basic realm=\"x\"");

/// A registry that wants a password.
async fn guarded(image: &Image) -> Server {
    let image = image.clone();
    Server::start(move |seen| match seen.headers.contains_key("authorization") {
        true if seen.path() == "/v2/" => Reply::ok("{}"),
        true => image.serve(seen),
        false => Reply::status(401).header(CHALLENGE.0, CHALLENGE.1),
    })
    .await
}

fn layer_of(image: &Image) -> String {
    format!("/v2/app/blobs/{}", sha256(&image.layers[0]))
}

#[tokio::test]
async fn a_mirror_is_told_its_own_headers_and_no_credentials() {
    let image = Image::new(vec![vec![7; 5000]]);
    let (content, bytes, layer) = (image.clone(), image.layers[0].clone(), layer_of(&image));
    let storage = Server::start(move |_| Reply::ok(bytes.clone())).await;
    let to = storage.url("/blob");
    let mirror = Server::start(move |seen| match seen.path() {
        path if path == layer => Reply::redirect(to.clone()),
        _ => content.serve(seen),
    })
    .await;
    // A mirror may ask for a password; it gets none, and the registry is asked.
    let curious = Server::start(|_| Reply::status(401).header(CHALLENGE.0, CHALLENGE.1)).await;
    let registry = guarded(&image).await;
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[host.\"http://{}\"]\n[host.\"http://{}\"]\n[host.\"http://{1}\".header]\nx-key = [\"a\", \"b\"]\naccept = \"nothing\"\n[header]\nx-own = \"c\"",
        curious.address, mirror.address
    );
    write(dir.path(), &registry.address.to_string(), &text);
    let mut request = request(&registry, "app:1");
    request.credentials = Some(Credentials::basic("user", "pass"));
    ruled(dir.path()).pull(&request, Arc::new(MemorySink::default()), |_| ()).await.unwrap();

    let namespace = format!("ns={}", registry.address);
    for (server, key) in [(&curious, None), (&mirror, Some("b"))] {
        assert!(!server.seen().is_empty());
        for seen in server.seen() {
            assert!(!seen.headers.contains_key("authorization") && !seen.headers.contains_key("x-own"));
            assert_eq!(seen.headers.get("x-key").map(String::as_str), key);
            assert!(seen.target.ends_with(&namespace), "{}", seen.target);
        }
    }
    assert!(mirror.seen()[0].headers["accept"].contains("manifest"));
    let redirected = storage.seen();
    assert_eq!(redirected.len(), 1);
    assert!(!redirected[0].headers.contains_key("x-key") && !redirected[0].target.contains("ns="));
    assert_eq!(registry.connections(), 0);

    // Without the mirrors the registry is asked itself, and told what is for it.
    write(dir.path(), &registry.address.to_string(), "[header]\nx-own = \"c\"");
    ruled(dir.path()).pull(&request, Arc::new(MemorySink::default()), |_| ()).await.unwrap();
    assert!(registry.seen().iter().all(|seen| seen.headers["x-own"] == "c" && !seen.target.contains("ns=")));
    assert_eq!(registry.seen().last().unwrap().headers["authorization"], "Basic dXNlcjpwYXNz");
}

#[tokio::test]
async fn a_server_elsewhere_gets_no_credentials_either() {
    let image = Image::new(vec![vec![7; 5000]]);
    let (registry, elsewhere) = (guarded(&image).await, guarded(&image).await);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &registry.address.to_string(), &format!("server = \"http://{}\"", elsewhere.address));
    let mut request = request(&registry, "app:1");
    request.credentials = Some(Credentials::basic("user", "pass"));
    let error = ruled(dir.path()).pull(&request, Arc::new(MemorySink::default()), |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(elsewhere.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
    assert_eq!(registry.connections(), 0);
    // Logging in is about the registry itself.
    let host = registry.address.to_string();
    ruled(dir.path()).login(&host, &Credentials::basic("user", "pass")).await.unwrap();
}

#[tokio::test]
async fn a_host_for_content_alone_is_not_asked_what_a_tag_is() {
    let image = Image::new(vec![vec![7; 5000]]);
    let (old, new) = (Image::new(vec![vec![8; 10]]), image.clone());
    let stale = Server::start(move |seen| match seen.path() {
        // What it has under the tag is old.
        "/v2/app/manifests/1" => old.serve(seen),
        _ => new.serve(seen),
    })
    .await;
    let content = image.clone();
    let registry = Server::start(move |seen| content.serve(seen)).await;
    let dir = tempfile::tempdir().unwrap();
    let text = format!("[host.\"http://{}\"]\ncapabilities = [\"pull\"]", stale.address);
    write(dir.path(), &registry.address.to_string(), &text);
    let (client, sink) = (ruled(dir.path()), Arc::new(MemorySink::default()));
    let pulled = client.pull(&request(&registry, "app:1"), sink.clone(), |_| ()).await.unwrap();
    assert_eq!(pulled.target.digest, sha256(&image.manifest));
    assert!(stale.seen_path("/v2/app/manifests/1").is_empty());
    assert_eq!(stale.seen_path(&layer_of(&image)).len(), 1);
    assert!(registry.seen_path(&layer_of(&image)).is_empty());
    let reference = request(&registry, "app:1").reference;
    assert_eq!(client.digest(&reference, None).await.unwrap(), None);
    assert_eq!(client.manifest(&reference, None).await.unwrap().descriptor.digest, sha256(&image.manifest));
    assert!(stale.seen_path("/v2/app/manifests/1").is_empty());
}

#[tokio::test]
async fn what_a_mirror_lacks_comes_from_the_next() {
    let image = Image::new(vec![vec![7; 50_000], vec![9; 10]]);
    let (content, layer, config) = (image.clone(), layer_of(&image), sha256(&image.config).to_string());
    let half = image.layers[0][..20_000].to_vec();
    let mirror = Server::start(move |seen| match seen.path() {
        // A part of one, nothing of another.
        path if path == layer && !seen.headers.contains_key("range") => {
            Reply { claim: Some(50_000), ..Reply::ok(half.clone()) }
        }
        path if path == layer => Reply::status(404),
        path if path.ends_with(&config) => Reply::status(404),
        _ => content.serve(seen),
    })
    .await;
    let content = image.clone();
    let registry = Server::start(move |seen| content.serve(seen)).await;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &registry.address.to_string(), &format!("[host.\"http://{}\"]", mirror.address));
    let sink = Arc::new(MemorySink::default());
    ruled(dir.path()).pull(&request(&registry, "app:1"), sink.clone(), |_| ()).await.unwrap();
    assert_eq!(sink.layers.lock().unwrap()[&sha256(&image.layers[0])], image.layers[0]);
    let resumed = registry.seen_path(&layer_of(&image));
    assert_eq!(resumed[0].headers["range"], "bytes=20000-");
    assert!(registry.seen_path("/v2/app/manifests/1").is_empty());
}

#[tokio::test]
async fn files_that_name_each_other_end() {
    let image = Image::new(vec![vec![7; 100]]);
    let nothing = Server::start(|_| Reply::status(404)).await;
    let content = image.clone();
    let registry = Server::start(move |seen| content.serve(seen)).await;
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (registry.address.to_string(), nothing.address.to_string());
    write(dir.path(), &a, &format!("[host.\"http://{b}\"]"));
    write(dir.path(), &b, &format!("[host.\"http://{a}\"]"));
    ruled(dir.path()).pull(&request(&registry, "app:1"), Arc::new(MemorySink::default()), |_| ()).await.unwrap();
    assert_eq!(nothing.seen().len(), 1);
}

#[tokio::test]
async fn a_file_that_is_wrong_stops_everything_until_it_is_right() {
    let image = Image::new(vec![vec![7; 100]]);
    let content = image.clone();
    let registry = Server::start(move |seen| content.serve(seen)).await;
    let dir = tempfile::tempdir().unwrap();
    let client = ruled(dir.path());
    let name = registry.address.to_string();
    write(dir.path(), &name, "server = \"https://a\"\n[host.\"http://b\"]\nskip_verfy = true");
    let error = client.pull(&request(&registry, "app:1"), Arc::new(MemorySink::default()), |_| ()).await.unwrap_err();
    let path = dir.path().join(&name).join("hosts.toml");
    let start = format!("cannot follow {}, line 3, key host.\"http://b\".skip_verfy: it is not known", path.display());
    assert!(error.to_string().starts_with(&start), "{error}");
    assert_eq!(registry.connections(), 0);
    write(dir.path(), &name, "");
    client.pull(&request(&registry, "app:1"), Arc::new(MemorySink::default()), |_| ()).await.unwrap();
}

#[tokio::test]
async fn a_path_of_its_own() {
    let image = Image::new(vec![vec![7; 100]]);
    let content = image.clone();
    let mirror = Server::start(move |seen| {
        let target = seen.target.replacen("/mirror/hub/", "/v2/", 1);
        if target == seen.target { Reply::status(404) } else { content.serve(&Seen { target, ..seen.clone() }) }
    })
    .await;
    let registry = Server::start(|_| Reply::status(500)).await;
    let dir = tempfile::tempdir().unwrap();
    let text = format!("[host.\"http://{}/mirror/hub/\"]\noverride_path = true", mirror.address);
    write(dir.path(), "_default", &text);
    ruled(dir.path()).pull(&request(&registry, "app:1"), Arc::new(MemorySink::default()), |_| ()).await.unwrap();
    assert_eq!(registry.connections(), 0);
    // The registry's own directory keeps the default away.
    std::fs::create_dir(dir.path().join(registry.address.to_string())).unwrap();
    let pulled = ruled(dir.path()).pull(&request(&registry, "app:1"), Arc::new(MemorySink::default()), |_| ()).await;
    assert!(pulled.is_err());
}
