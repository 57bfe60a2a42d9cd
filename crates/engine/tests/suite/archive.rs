//! Files of containers through the façade: copying in and out, export, changes. Needs root,
//! `/bin/busybox` and a built `dhow-shim`; says so and passes where they are missing.

use std::collections::BTreeMap;
use std::io::Read;

use crate::common::{Host, host};
use bytes::Bytes;
use engine::{ArchivePutOptions, ByteStream, StopOptions};
use futures_util::StreamExt;
use types::Kind;

/// Members by name with their content.
async fn members(mut bytes: ByteStream) -> BTreeMap<String, String> {
    let mut archive = Vec::new();
    while let Some(chunk) = bytes.next().await {
        archive.extend_from_slice(&chunk.unwrap());
    }
    let mut out = BTreeMap::new();
    for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        out.insert(name, String::from_utf8_lossy(&text).into_owned());
    }
    out
}

fn archive(name: &str, content: &str) -> ByteStream {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    let bytes = Bytes::from(tar.into_inner().unwrap());
    Box::pin(futures_util::stream::once(async move { Ok(bytes) }))
}

async fn put(host: &Host, id: &str, path: &str, name: &str, content: &str) -> engine::Result<()> {
    host.engine().container_archive_put(id, path, ArchivePutOptions::default(), archive(name, content)).await
}

async fn get(host: &Host, id: &str, path: &str) -> BTreeMap<String, String> {
    members(host.engine().container_archive_get(id, path).await.unwrap().1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_and_out_of_a_stopped_and_a_running_container() {
    let Some(host) = host().await else { return };
    let id = host.create(&["sleep", "1000"], |_, _| {}).await;
    for running in [false, true] {
        let name = format!("in-{running}");
        put(&host, &id, "/data", &name, "copied").await.unwrap();
        let stat = host.engine().container_archive_stat(&id, &format!("/data/{name}")).await.unwrap();
        assert_eq!((stat.name.as_str(), stat.size, stat.mode), (name.as_str(), 6, 0o644));
        assert_eq!(get(&host, &id, &format!("/data/{name}")).await[&name], "copied");
        let all = get(&host, &id, "/data").await;
        assert_eq!(all["data/file"], "from the image\n");
        let inside = get(&host, &id, "/data/.").await;
        assert!(inside.contains_key(&format!("./{name}")), "{inside:?}");
        let link = host.engine().container_archive_stat(&id, "/bin/sh").await.unwrap();
        assert_eq!((link.name.as_str(), link.link_target.as_str()), ("sh", "/bin/busybox"));

        for error in [
            host.engine().container_archive_stat(&id[..12], "/nowhere").await.err().unwrap(),
            host.engine().container_archive_get(&id[..12], "/nowhere").await.err().unwrap(),
            put(&host, &id[..12], "/nowhere", "x", "y").await.unwrap_err(),
        ] {
            let text = format!("Could not find the file /nowhere in container {}", &id[..12]);
            assert_eq!((error.kind(), error.to_string()), (Kind::NotFound, text));
        }
        let error = put(&host, &id, "/etc/passwd", "x", "y").await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, "extraction point is not a directory"));
        if !running {
            host.engine().container_start(&id, None).await.unwrap();
        }
    }
    let changed = host.engine().container_changes(&id).await.unwrap();
    let shown: Vec<(u8, &str)> = changed.iter().map(|c| (c.kind, c.path.as_str())).collect();
    assert_eq!(shown, [(0, "/data"), (1, "/data/in-false"), (1, "/data/in-true")]);
    let exported = members(host.engine().container_export(&id).await.unwrap()).await;
    assert_eq!((exported["data/in-true"].as_str(), exported["data/file"].as_str()), ("copied", "from the image\n"));
    assert!(!exported.contains_key("proc/version"), "what is mounted is left out");
    let stop = StopOptions { signal: Some("KILL".into()), timeout: None };
    host.engine().container_stop(&id, stop).await.unwrap();
    assert_eq!(get(&host, &id, "/data/in-true").await["in-true"], "copied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_below_mounts_lead_to_what_is_mounted() {
    let Some(host) = host().await else { return };
    let bound = host.dir.path().join("bound");
    std::fs::create_dir(&bound).unwrap();
    std::fs::write(bound.join("there"), "on the host").unwrap();
    std::fs::write(host.dir.path().join("single"), "one file").unwrap();
    let bind = |target: &str, what: &str| format!("{}:{target}", host.dir.path().join(what).display());
    let id = host
        .create(&["sleep", "1000"], |_, host_config| {
            host_config.binds = Some(vec![
                "named:/vol".into(),
                bind("/host", "bound"),
                bind("/ro:ro", "bound"),
                bind("/etc/one", "single"),
            ]);
            host_config.readonly_rootfs = true;
        })
        .await;
    for running in [false, true] {
        let name = format!("in-{running}");
        put(&host, &id, "/vol", &name, "kept").await.unwrap();
        put(&host, &id, "/host/", &name, "shared").await.unwrap();
        assert_eq!(std::fs::read_to_string(bound.join(&name)).unwrap(), "shared");
        assert_eq!(get(&host, &id, "/vol").await[&format!("vol/{name}")], "kept");
        assert_eq!(get(&host, &id, "/vol/.").await[&format!("./{name}")], "kept");
        assert_eq!(get(&host, &id, "/host/there").await["there"], "on the host");
        assert_eq!(get(&host, &id, "/etc/one").await["one"], "one file");
        assert_eq!(host.engine().container_archive_stat(&id, "/etc/one").await.unwrap().name, "one");
        assert_eq!(host.engine().container_archive_stat(&id, "/vol").await.unwrap().name, "vol");
        for (path, text) in
            [("/ro", "mounted volume is marked read-only"), ("/data", "container rootfs is marked read-only")]
        {
            let error = put(&host, &id, path, "x", "y").await.unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, text));
        }
        if !running {
            host.engine().container_start(&id, None).await.unwrap();
        }
    }
    let volume = host.engine().volume_inspect("named").await.unwrap();
    assert_eq!(std::fs::read_to_string(format!("{}/in-true", volume.mountpoint)).unwrap(), "kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_the_container_do_not_lead_out() {
    let Some(host) = host().await else { return };
    let secret = host.dir.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "of the host").unwrap();
    let cmd = secret.display().to_string();
    let evil = host.create(&["sh", "-c", &format!("ln -s {cmd} /out; ln -s /../../../../../.. /up")], |_, _| {}).await;
    host.engine().container_start(&evil, None).await.unwrap();
    host.engine().container_wait(&evil, engine::WaitCondition::NotRunning).unwrap().await.unwrap();
    assert_eq!(host.engine().container_archive_stat(&evil, "/out/key").await.err().unwrap().kind(), Kind::NotFound);
    assert!(put(&host, &evil, "/out", "planted", "x").await.is_err());
    assert!(!secret.join("planted").exists());
    let up = get(&host, &evil, "/up/data").await;
    assert_eq!(up["data/file"], "from the image\n", "the top is the container's own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_volume_gets_what_the_image_has() {
    let Some(host) = host().await else { return };
    let binds = |list: &[&str]| Some(list.iter().map(|b| (*b).to_owned()).collect::<Vec<_>>());
    let run = async |bind: &str, cmd: &str| {
        let bind = binds(&[bind]);
        host.run(&["sh", "-c", cmd], |_, host_config| host_config.binds = bind).await
    };
    assert_eq!(run("fresh:/data", "cat /data/file; echo more > /data/added").await.1, "from the image\n");
    assert_eq!(run("fresh:/data", "cat /data/added").await.1, "more\n", "it outlives its container");
    assert_eq!(run("plain:/data:nocopy", "ls /data").await.1, "", "unless the copy is refused");
    let error = host.engine().volume_remove("fresh", false).await.unwrap_err();
    assert!(
        error.kind() == Kind::Conflict && error.to_string().starts_with("remove fresh: volume is in use - ["),
        "{error}"
    );
    host.engine().container_prune(types::Filters::new()).await.unwrap();
    host.engine().volume_remove("fresh", false).await.unwrap();
    assert!(!host.config.data_root.join("volumes/fresh").exists());
    let error = host.engine().volume_inspect("fresh").await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::NotFound, "get fresh: no such volume"));
}
