//! Images through the façade: import, names, load and save, commit, removal, garbage. Needs root,
//! `/bin/busybox` and a built `dhow-shim`; says so and passes where they are missing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::{Host, host};
use bytes::Bytes;
use docker_types::message::JsonMessage;
use engine::{AnyStream, ByteStream, CommitOptions, ImageListOptions, ImportOptions, PullOptions, RemoveOptions};
use futures_util::StreamExt;
use types::{Filters, Kind};

fn body(bytes: Vec<u8>) -> ByteStream {
    let chunks: Vec<_> = bytes.chunks(60_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    Box::pin(futures_util::stream::iter(chunks))
}

async fn all(mut bytes: ByteStream) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(chunk) = bytes.next().await {
        out.extend_from_slice(&chunk.unwrap());
    }
    out
}

async fn told(mut messages: AnyStream<JsonMessage>) -> Vec<JsonMessage> {
    let mut out = Vec::new();
    while let Some(message) = messages.next().await {
        out.push(message);
    }
    out
}

/// An archive of one file.
fn tree(name: &str, content: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

async fn import(host: &Host, name: Option<&str>, content: &str, changes: &[&str]) -> String {
    let options = ImportOptions {
        repo: name.map(str::to_owned),
        changes: changes.iter().map(|c| (*c).to_owned()).collect(),
        ..ImportOptions::default()
    };
    let messages = told(host.engine().image_import(options, body(tree("file", content))).await.unwrap()).await;
    assert_eq!(messages.len(), 1);
    messages[0].status.clone()
}

/// Names of files below the store's directories: blobs and layers.
fn content(host: &Host) -> BTreeSet<String> {
    let data = &host.config.data_root;
    let list = |path: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    [list(&data.join("content/blobs/sha256")), list(&data.join("content/ingest")), list(&data.join("layers"))]
        .concat()
        .into_iter()
        .collect()
}

async fn names(host: &Host) -> Vec<String> {
    let list = host.engine().image_list(ImageListOptions::default()).await.unwrap();
    let mut names: Vec<String> = list.into_iter().flat_map(|image| image.repo_tags).collect();
    names.sort();
    names
}

async fn remove(host: &Host, name: &str, force: bool) -> engine::Result<Vec<String>> {
    let items = host.engine().image_remove(name, force, false).await?;
    Ok(items.into_iter().map(|i| if i.untagged.is_empty() { "Deleted".to_owned() } else { i.untagged }).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_come_and_go_and_the_content_with_the_last() {
    let Some(mut host) = host().await else { return };
    let before = content(&host);
    let id = import(&host, Some("app:1"), "one", &["CMD [\"x\"]", "LABEL tier=web"]).await;
    host.engine().image_tag("app:1", "reg.example/team/app", "2").await.unwrap();
    assert_eq!(names(&host).await, ["app:1", "busybox:latest", "reg.example/team/app:2"]);
    host.reopen().await;
    assert_eq!(names(&host).await, ["app:1", "busybox:latest", "reg.example/team/app:2"], "after another start");

    let inspect = host.engine().image_inspect(&id[7..19], true, None).await.unwrap();
    assert_eq!((inspect.id.as_str(), inspect.comment.as_str()), (id.as_str(), "Imported from -"));
    assert_eq!(inspect.config.unwrap().cmd.unwrap().0, ["x"]);
    assert_eq!(inspect.manifests.len(), 1);
    assert_eq!(inspect.repo_digests, [format!("app@{id}"), format!("reg.example/team/app@{id}")]);
    let history = host.engine().image_history("app:1", None).await.unwrap();
    assert_eq!((history.len(), history[0].id.as_str(), history[0].size), (1, id.as_str(), 3));

    let filtered = async |key: &str, value: &str| {
        let filters: Filters = [(key, value)].into_iter().collect();
        let list = host.engine().image_list(ImageListOptions { filters, ..Default::default() }).await.unwrap();
        list.into_iter().flat_map(|image| image.repo_tags).collect::<Vec<_>>()
    };
    assert_eq!(filtered("reference", "app:*").await, ["app:1"]);
    assert_eq!(filtered("reference", "*/*/app").await, ["reg.example/team/app:2"]);
    assert_eq!(filtered("label", "tier=web").await.len(), 2);
    assert_eq!(filtered("since", "busybox").await.len(), 2);
    assert_eq!(filtered("before", "app:1").await, ["busybox:latest"]);
    assert!(filtered("dangling", "true").await.is_empty());

    assert!(content(&host).len() > before.len());
    let error = remove(&host, &id, false).await.unwrap_err();
    assert!(error.to_string().ends_with("(must be forced) - image is referenced in multiple repositories"), "{error}");
    assert_eq!(remove(&host, "app:1", false).await.unwrap(), ["app:1"]);
    assert_eq!(remove(&host, "reg.example/team/app:2", false).await.unwrap(), ["reg.example/team/app:2", "Deleted"]);
    assert_eq!(content(&host), before, "blobs and layers");
    let error = remove(&host, "app:1", false).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::NotFound, "No such image: app:1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_moves_leaves_the_old_image_dangling_until_pruned() {
    let Some(host) = host().await else { return };
    let before = content(&host);
    let old = import(&host, Some("app"), "old", &[]).await;
    let new = import(&host, Some("app"), "new", &[]).await;
    let list = host.engine().image_list(ImageListOptions::default()).await.unwrap();
    let tags = |id: &str| list.iter().find(|image| image.id == id).unwrap().repo_tags.clone();
    assert_eq!((tags(&old).len(), tags(&new)), (0, vec!["app:latest".to_owned()]));
    // Unnamed images can be named again, and are then dangling no more.
    host.engine().image_tag(&old, "kept", "1").await.unwrap();
    import(&host, None, "nameless", &[]).await;
    let report = host.engine().image_prune(Filters::new()).await.unwrap();
    assert_eq!(report.images_deleted.unwrap().len(), 1, "the nameless one");
    assert!(report.space_reclaimed > 0);
    assert_eq!(names(&host).await, ["app:latest", "busybox:latest", "kept:1"]);
    let filters: Filters = [("dangling", "false")].into_iter().collect();
    host.create(&["true"], |_, _| {}).await;
    host.engine().image_prune(filters).await.unwrap();
    assert_eq!(names(&host).await, ["busybox:latest"], "the one a container uses");
    assert_eq!(content(&host), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_in_use_stays() {
    let Some(host) = host().await else { return };
    let id = host.engine().image_inspect("busybox", false, None).await.unwrap().id;
    let container = host.create(&["sleep", "1000"], |_, _| {}).await;
    let error = remove(&host, "busybox", false).await.unwrap_err();
    let text = format!(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its referenced image {}",
        &container[..12],
        &id[7..19]
    );
    assert_eq!((error.kind(), error.to_string()), (Kind::Conflict, text));
    host.engine().container_start(&container, None).await.unwrap();
    let error = remove(&host, &id, true).await.unwrap_err();
    assert!(error.to_string().contains("(cannot be forced) - image is being used by running container"), "{error}");
    let whole = content(&host);
    assert_eq!(remove(&host, "busybox", true).await.unwrap(), ["busybox:latest"]);
    assert_eq!(content(&host), whole, "untagged, not deleted");
    host.engine().container_remove(&container, RemoveOptions { force: true, ..Default::default() }).await.unwrap();
    assert_eq!(remove(&host, &id[7..15], false).await.unwrap(), ["Deleted"]);
    assert_eq!(content(&host), BTreeSet::from(["empty".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_outlives_its_image_and_can_be_committed() {
    let Some(host) = host().await else { return };
    let id = host.engine().image_inspect("busybox", false, None).await.unwrap().id;
    let container = host.create(&["sh", "-c", "echo new > /made; rm /data/file"], |_, _| {}).await;
    remove(&host, &id, true).await.unwrap();
    assert!(names(&host).await.is_empty());
    host.engine().container_start(&container, None).await.unwrap();
    host.engine().container_wait(&container, engine::WaitCondition::NotRunning).unwrap().await.unwrap();
    let options = CommitOptions {
        container: container.clone(),
        repo: Some("made".into()),
        comment: Some("note".into()),
        changes: vec!["ENV A=b".into()],
        pause: true,
        ..CommitOptions::default()
    };
    let made = host.engine().container_commit(options).await.unwrap();
    let inspect = host.engine().image_inspect("made", false, None).await.unwrap();
    assert_eq!((inspect.id, inspect.comment.as_str(), inspect.root_fs.layers.len()), (made, "note", 2));
    let config = inspect.config.unwrap();
    assert!(config.env.unwrap().contains(&"A=b".to_owned()));
    host.engine().container_remove(&container, RemoveOptions::default()).await.unwrap();
    let (code, out, err) =
        host.run(&["sh", "-c", "cat /made; ls /data; echo $A"], |config, _| config.image = "made".into()).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "new\nb\n", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_saved_loads_again_with_its_id() {
    let Some(host) = host().await else { return };
    let id = host.engine().image_inspect("busybox", false, None).await.unwrap().id;
    host.engine().image_tag("busybox", "other", "x").await.unwrap();
    let archive =
        all(host.engine().image_save(vec!["busybox".into(), "other:x".into()], Vec::new()).await.unwrap()).await;
    assert_eq!(host.engine().image_save(vec!["nosuch".into()], Vec::new()).await.err().unwrap().kind(), Kind::NotFound);
    remove(&host, "busybox", false).await.unwrap();
    remove(&host, "other:x", false).await.unwrap();
    assert_eq!(content(&host), BTreeSet::from(["empty".to_owned()]));
    let messages = told(host.engine().image_load(body(archive.clone()), true, Vec::new()).await.unwrap()).await;
    let words: Vec<&str> = messages.iter().map(|m| m.stream.as_str()).collect();
    assert_eq!(words, ["Loaded image: busybox:latest\n", "Loaded image: other:x\n"]);
    assert_eq!(host.engine().image_inspect("other:x", false, None).await.unwrap().id, id);
    assert_eq!(host.run(&["echo", "hi"], |_, _| {}).await.1, "hi\n");

    // Half an archive, and none at all.
    let before = content(&host);
    for bytes in [archive[..archive.len() / 2].to_vec(), b"nonsense\n".to_vec(), Vec::new()] {
        let messages = told(host.engine().image_load(body(bytes), true, Vec::new()).await.unwrap()).await;
        assert!(!messages.last().unwrap().error.is_empty());
    }
    assert_eq!(content(&host), before, "nothing of it stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_leaves_nothing() {
    let Some(host) = host().await else { return };
    let before = content(&host);
    let archive = tree("file", &"x".repeat(300_000));
    let broken: ByteStream = Box::pin(futures_util::stream::iter([
        Ok(Bytes::from(archive[..100_000].to_vec())),
        Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the client is gone")),
    ]));
    let options = || ImportOptions { repo: Some("x".into()), ..ImportOptions::default() };
    assert!(host.engine().image_import(options(), broken).await.is_err());
    let bad = ImportOptions { changes: vec!["FROM y".into()], ..options() };
    let error = host.engine().image_import(bad, body(archive)).await.err().unwrap();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, "FROM is not a valid change command"));
    let upper = ImportOptions { repo: Some("UPPER".into()), ..ImportOptions::default() };
    assert_eq!(host.engine().image_import(upper, body(tree("a", "b"))).await.err().unwrap().kind(), Kind::Invalid);
    // A registry nobody listens at.
    let pull = PullOptions { reference: "127.0.0.1:1/nosuch".into(), ..PullOptions::default() };
    let error = host.engine().image_pull(pull).await.err().unwrap();
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert_eq!(content(&host), before);
    assert_eq!(names(&host).await, ["busybox:latest"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_places_of_mounts_are_in_an_export_and_not_in_a_commit() {
    let Some(host) = host().await else { return };
    let members = |archive: &[u8]| -> BTreeSet<String> {
        let mut archive = tar::Archive::new(archive);
        let names = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned());
        names.map(|name| name.trim_end_matches('/').to_owned()).collect()
    };
    let id = host.create(&["sh", "-c", "echo mine > /etc/mine; echo x > /x"], |_, _| {}).await;
    host.engine().container_start(&id, None).await.unwrap();
    host.engine().container_wait(&id, engine::WaitCondition::NotRunning).unwrap().await.unwrap();
    let exported = members(&all(host.engine().container_export(&id).await.unwrap()).await);
    for name in [
        ".dockerenv",
        "dev/console",
        "dev/pts",
        "dev/shm",
        "etc/hostname",
        "etc/hosts",
        "etc/mtab",
        "etc/resolv.conf",
        "etc/mine",
        "proc",
        "sys",
    ] {
        assert!(exported.contains(name), "{name} of {exported:?}");
    }
    let changed = host.engine().container_changes(&id).await.unwrap();
    let changed: Vec<(u8, &str)> = changed.iter().map(|c| (c.kind, c.path.as_str())).collect();
    assert_eq!(changed, [(0, "/etc"), (1, "/etc/mine"), (1, "/x")]);

    let options = CommitOptions { container: id, repo: Some("made".into()), ..CommitOptions::default() };
    host.engine().container_commit(options).await.unwrap();
    let top = host.engine().image_inspect("made", false, None).await.unwrap().root_fs.layers.pop().unwrap();
    let saved = all(host.engine().image_save(vec!["made".into()], Vec::new()).await.unwrap()).await;
    let mut saved = tar::Archive::new(saved.as_slice());
    let hex = top.trim_start_matches("sha256:");
    let mut layer = Vec::new();
    for entry in saved.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().ends_with(hex) {
            std::io::Read::read_to_end(&mut entry, &mut layer).unwrap();
        }
    }
    assert_eq!(members(&layer), BTreeSet::from(["etc", "etc/mine", "x"].map(str::to_owned)));
}
