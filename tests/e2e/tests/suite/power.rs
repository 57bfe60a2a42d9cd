//! Power cuts: what was acknowledged is there afterwards, whole, and nothing else is half there.
//!
//! The data root lies on a file system in a file whose kernel writes nothing by itself for a long time. The
//! daemon is stopped at a random moment and the file copied: the copy holds what a power cut would have left
//! on the disk. A second daemon starts on the copy and must find everything that clients were told was done.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use e2e::daemon::Options;
use e2e::{Client, Daemon, Environment};

use crate::disk::{Disk, run};
use crate::registry::Registry;
use crate::registry_serve::serve;

/// What clients were told, and the name that was being changed.
#[derive(Clone, Default)]
struct Told {
    names: BTreeMap<String, Option<String>>,
    /// Tags of a repository of the registry on the same disk.
    pushed: BTreeMap<String, String>,
    changing: Option<String>,
    done: u64,
}

/// Our registry, over a directory of the disk.
struct OnDisk {
    child: Child,
    address: String,
}

impl OnDisk {
    fn over(environment: &Environment, disk: &Disk) -> Self {
        // Collections run meanwhile; the disk would be full without them.
        let flags = ["--gc-interval", "5s", "--gc-grace", "20s"];
        let (child, address) = serve(environment, "dhowd", &disk.mount.join("registry"), &flags);
        Self { child, address }
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A generator of numbers; the seed is printed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn id(client: &Client, name: &str) -> String {
    client.json(&["image", "inspect", name])[0]["Id"].as_str().unwrap().to_owned()
}

/// Removes a manifest that no tag leads to any more, which a registry keeps unless told otherwise.
fn unpush(own: &str, digest: &str) {
    let url = format!("http://{own}/v2/pushed/manifests/{digest}");
    run("curl", &["-sf", "-X", "DELETE", &url]).expect("an old manifest is removed");
}

/// Changes images until told to stop, and writes down what is acknowledged.
fn work(client: &Client, registry: &str, own: &str, told: &Mutex<Told>, stop: &AtomicBool, seed: u64) {
    let mut random = Random(seed);
    let pulled = format!("{registry}/pulled:1");
    let mut digests = BTreeMap::<String, String>::new();
    while !stop.load(Ordering::Relaxed) {
        // Images that lost their tag would fill the disk.
        if random.below(8) == 0 {
            client.run(&["image", "prune", "-f"]);
        }
        let name = format!("n{}:1", random.below(4));
        let known = told.lock().unwrap().names.clone();
        let at = |name: &str| known.get(name).cloned().flatten();
        let begin = |name: &str| told.lock().unwrap().changing = Some(name.to_owned());
        let end = |name: &str, id: Option<String>| {
            let mut told = told.lock().unwrap();
            told.names.insert(name.to_owned(), id);
            told.changing = None;
            told.done += 1;
        };
        match random.below(5) {
            4 if at(&name).is_some() => {
                let target = format!("{own}/pushed:{}", random.below(3));
                begin(&target);
                client.run(&["tag", &name, &target]);
                let pushed = client.run(&["push", &target]);
                let digest = pushed.split_whitespace().find(|word| word.starts_with("sha256:")).expect(&pushed);
                client.run(&["rmi", &target]);
                let before = digests.insert(target.clone(), digest.to_owned());
                if let Some(before) = before.filter(|before| digests.values().all(|digest| digest != before)) {
                    unpush(own, &before);
                }
                let mut told = told.lock().unwrap();
                let tag = target.rsplit(':').next().unwrap_or_default().to_owned();
                told.pushed.extend(known.get(&name).cloned().flatten().map(|id| (tag, id)));
                told.changing = None;
                told.done += 1;
            }
            0 => {
                begin(&pulled);
                client.run(&["pull", "-q", &pulled]);
                let id = id(client, &pulled);
                end(&pulled, Some(id));
            }
            1 => {
                let bytes = 1 + random.below(3_000_000);
                let script = format!("head -c {bytes} /dev/urandom >/mark");
                begin(&name);
                client.run(&["run", "--name", "work", "busybox", "sh", "-c", &script]);
                let id = client.run(&["commit", "work", &name]);
                client.run(&["rm", "work"]);
                end(&name, Some(id));
            }
            2 if at(&pulled).is_some() => {
                begin(&name);
                client.run(&["tag", &pulled, &name]);
                end(&name, at(&pulled));
            }
            _ => {
                let gone = if random.below(2) == 0 { pulled.clone() } else { name };
                if at(&gone).is_some() {
                    begin(&gone);
                    client.run(&["rmi", &gone]);
                    end(&gone, None);
                }
            }
        }
    }
}

fn empty_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        if meta.is_dir() {
            // An unpacked layer may well have empty files.
            if entry.file_name() != "fs" {
                empty_files(&entry.path(), found);
            }
        } else if meta.len() == 0 && entry.file_name() != "opaque" {
            found.push(entry.path());
        }
    }
}

/// Everything that was told is there, and nothing else is broken.
fn check(disk: &Disk, told: &Told, cut: usize) {
    let options = Options { data: Some(disk.mount.clone()), ..Options::default() };
    let daemon = Daemon::start_with(options).expect("the first one started too");
    let client = daemon.dhow();
    for (name, id) in &told.names {
        if told.changing.as_deref() == Some(name) {
            continue;
        }
        let found = client.try_run(&["image", "inspect", "--format", "{{.Id}}", name]);
        match id {
            Some(id) => assert_eq!(found.stdout.trim(), id, "cut {cut}: {name} was acknowledged"),
            None => assert_ne!(found.code, 0, "cut {cut}: {name} was removed"),
        }
    }
    let checked = client.try_run(&["system", "fsck"]);
    assert_eq!(checked.code, 0, "cut {cut}: {checked:?}");
    let mut empty = Vec::new();
    ["content/blobs", "layers", "registry/blobs"].iter().for_each(|dir| empty_files(&disk.mount.join(dir), &mut empty));
    assert!(empty.is_empty(), "cut {cut}: {empty:?}");
    let registry = OnDisk::over(daemon.environment, disk);
    for (tag, id) in &told.pushed {
        if told.changing.as_ref().is_some_and(|name| name.ends_with(&format!("/pushed:{tag}"))) {
            continue;
        }
        // Every byte of it: the client checks what it pulls.
        let name = format!("{}/pushed:{tag}", registry.address);
        client.run(&["pull", "-q", &name]);
        assert_eq!(self::id(&client, &name), *id, "cut {cut}: the push of {tag} was acknowledged");
    }
    let some = told.names.iter().find(|(name, id)| id.is_some() && told.changing.as_ref() != Some(*name));
    if let Some((name, _)) = some {
        assert_eq!(client.run(&["run", "--rm", name, "echo", "runs"]), "runs", "cut {cut}: {name}");
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let dir = tempfile::Builder::new().prefix("dhow-power-").tempdir().unwrap();
    let copy = dir.path().join("cut.img");
    let Some(disk) = Disk::make(dir.path(), "data", 1024) else {
        eprintln!("skipped: no loop devices");
        return;
    };
    let Some(daemon) = Daemon::start_with(Options { data: Some(disk.mount.clone()), ..Options::default() }) else {
        return;
    };
    daemon.busybox();
    let registry = Registry::start();
    let name = format!("{}/pulled:1", registry.address);
    let script = "head -c 6000000 /dev/urandom >/pulled";
    daemon.docker().run(&["run", "--name", "made", "busybox", "sh", "-c", script]);
    daemon.docker().run(&["commit", "made", &name]);
    daemon.docker().run(&["push", &name]);
    daemon.docker().run(&["rm", "made"]);
    daemon.docker().run(&["rmi", &name]);

    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    eprintln!("seed {seed}");
    let cuts = if daemon.environment.long { 200 } else { 8 };
    let told = Arc::new(Mutex::new(Told::default()));
    told.lock().unwrap().names.insert("busybox:latest".to_owned(), Some(id(&daemon.dhow(), "busybox")));
    let stop = Arc::new(AtomicBool::new(false));
    let own = OnDisk::over(daemon.environment, &disk);
    let signal = |name: &str| {
        let pids = [daemon.pid().to_string(), own.child.id().to_string()];
        assert!(Command::new("kill").arg(name).args(pids).status().unwrap().success());
    };
    std::thread::scope(|scope| {
        let (client, address, own) = (daemon.dhow(), registry.address.clone(), own.address.clone());
        let (writing, stopping) = (Arc::clone(&told), Arc::clone(&stop));
        let worker = scope.spawn(move || work(&client, &address, &own, &writing, &stopping, seed));
        // The worker must end with this thread, whatever happens here.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopper = Stop(&stop);
        let mut random = Random(seed ^ 1);
        for cut in 0..cuts {
            std::thread::sleep(Duration::from_millis(20 + random.below(400)));
            signal("-STOP");
            let state = told.lock().unwrap().clone();
            // Writes that were on their way to the disk arrive.
            std::thread::sleep(Duration::from_millis(30));
            let copied = run("cp", &["--sparse=always", disk.image.to_str().unwrap(), copy.to_str().unwrap()]);
            signal("-CONT");
            assert!(copied.is_some());
            let after = Disk::attach(&copy, &dir.path().join(format!("cut{cut}"))).expect("the copy is mounted");
            check(&after, &state, cut);
            assert!(!worker.is_finished(), "the worker failed");
        }
        drop(stopper);
        worker.join().unwrap();
    });
    let done = told.lock().unwrap().done;
    eprintln!("{cuts} cuts among {done} changes");
    assert!(done > cuts as u64, "{done} changes");
}
