//! A bundle in a temporary directory: a busybox root file system and a `config.json` that is what dockerd would write
//! until a test says otherwise. Setters take and give the bundle, so that they chain.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{config, rootfs};

/// A bundle; its directory goes with it.
#[derive(Debug)]
pub struct Bundle {
    dir: TempDir,
    id: String,
    /// The configuration as it will be written before the runtime is called.
    pub config: Value,
}

impl Default for Bundle {
    fn default() -> Self {
        Self::new()
    }
}

impl Bundle {
    /// A container as `docker run busybox true` makes it.
    ///
    /// # Panics
    /// When it cannot be made, as everything here.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("oci-bundle-").tempdir().expect("a directory for the bundle");
        // Users of the container must be able to pass.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("the mode of the bundle");
        let root = dir.path().join("rootfs");
        fs::create_dir(&root).expect("a directory for the root file system");
        rootfs::make(&root);
        let id = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { dir, id, config: config::docker() }
    }

    /// The id of the container made from this bundle: unique among all tests.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bundle's directory on the host.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The place of a path of the container in the root file system on the host. Links are not looked at.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("rootfs").join(inside.trim_start_matches('/'))
    }

    // --- the process

    /// What is executed.
    #[must_use]
    pub fn args<S: AsRef<str>>(self, args: &[S]) -> Self {
        self.set("/process/args", args.iter().map(AsRef::as_ref).collect())
    }

    /// A script for the container's shell.
    #[must_use]
    pub fn shell(self, script: &str) -> Self {
        self.args(&["/bin/sh", "-c", script])
    }

    /// A program that does nothing until it is killed.
    #[must_use]
    pub fn idle(self) -> Self {
        self.args(&["/bin/sleep", "100000"])
    }

    /// One more environment item.
    #[must_use]
    pub fn env(self, item: &str) -> Self {
        self.push("/process/env", json!(item))
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(self, path: &str) -> Self {
        self.set("/process/cwd", json!(path))
    }

    /// User, group and further groups.
    #[must_use]
    pub fn user(self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        self.set("/process/user", json!({ "uid": uid, "gid": gid, "additionalGids": groups }))
    }

    /// The three sets that are not empty by default.
    #[must_use]
    pub fn capabilities(self, names: &[&str]) -> Self {
        self.set("/process/capabilities", json!({ "bounding": names, "effective": names, "permitted": names }))
    }

    /// A terminal; the runtime needs a [`crate::Console`] then.
    #[must_use]
    pub fn terminal(self) -> Self {
        self.set("/process/terminal", json!(true))
    }

    // --- its surroundings

    /// One more mount, after those that are there.
    #[must_use]
    pub fn mount(self, mount: Value) -> Self {
        self.push("/mounts", mount)
    }

    /// A bind mount of a path of the host.
    #[must_use]
    pub fn bind(self, source: &Path, target: &str, options: &[&str]) -> Self {
        let options: Vec<&str> = ["rbind"].iter().chain(options).copied().collect();
        self.mount(json!({ "destination": target, "type": "bind", "source": source, "options": options }))
    }

    /// Takes the mount at the target away.
    #[must_use]
    pub fn without_mount(mut self, target: &str) -> Self {
        self.list("/mounts").retain(|mount| mount["destination"] != target);
        self
    }

    /// A namespace of the kind: new, or the one at the path.
    #[must_use]
    pub fn namespace(self, kind: &str, path: Option<&str>) -> Self {
        let mut bundle = self.without_namespace(kind);
        let namespace = match path {
            Some(path) => json!({ "type": kind, "path": path }),
            None => json!({ "type": kind }),
        };
        bundle.list("/linux/namespaces").push(namespace);
        bundle
    }

    /// The host's namespace of the kind.
    #[must_use]
    pub fn without_namespace(mut self, kind: &str) -> Self {
        self.list("/linux/namespaces").retain(|namespace| namespace["type"] != kind);
        self
    }

    /// A user namespace whose root is `first` on the host, with 65536 ids. The root file system is given to it.
    #[must_use]
    pub fn user_namespace(self, first: u32) -> Self {
        own(&self.path("/"), first);
        let map = json!([{ "containerID": 0, "hostID": first, "size": 65536 }]);
        self.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// A sysctl.
    #[must_use]
    pub fn sysctl(self, key: &str, value: &str) -> Self {
        let pointer = format!("/linux/sysctl/{}", key.replace('~', "~0").replace('/', "~1"));
        self.set(&pointer, json!(value))
    }

    /// No filter of system calls.
    #[must_use]
    pub fn without_seccomp(self) -> Self {
        self.remove("/linux/seccomp")
    }

    // --- any other field

    /// Sets what the JSON pointer names; objects on the way are made.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        *self.place(pointer) = value;
        self
    }

    /// Takes away what the JSON pointer names.
    #[must_use]
    pub fn remove(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a JSON pointer");
        if let Some(Value::Object(fields)) = self.config.pointer_mut(parent) {
            fields.shift_remove(name);
        }
        self
    }

    /// Adds to the list that the JSON pointer names.
    #[must_use]
    pub fn push(mut self, pointer: &str, value: Value) -> Self {
        self.list(pointer).push(value);
        self
    }

    fn list(&mut self, pointer: &str) -> &mut Vec<Value> {
        let place = self.place(pointer);
        if !place.is_array() {
            *place = json!([]);
        }
        place.as_array_mut().expect("a list")
    }

    fn place(&mut self, pointer: &str) -> &mut Value {
        let mut place = &mut self.config;
        for name in pointer.split('/').skip(1) {
            let name = name.replace("~1", "/").replace("~0", "~");
            if place.is_array() {
                let at: usize = name.parse().expect("an index into the list");
                place = &mut place[at];
                continue;
            }
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[name];
        }
        place
    }

    // --- the root file system

    /// A file with its mode. What was there goes.
    #[must_use]
    pub fn file(self, inside: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        let path = self.vacate(inside);
        fs::write(&path, content).expect("a file of the root file system");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        self
    }

    /// A directory.
    #[must_use]
    pub fn directory(self, inside: &str) -> Self {
        fs::create_dir_all(self.path(inside)).expect("a directory of the root file system");
        self
    }

    /// A symbolic link. What was there goes.
    #[must_use]
    pub fn link(self, inside: &str, target: impl AsRef<Path>) -> Self {
        symlink(target, self.vacate(inside)).expect("a link in the root file system");
        self
    }

    /// A program of the host, 0755.
    #[must_use]
    pub fn program(self, inside: &str, program: &Path) -> Self {
        let path = self.vacate(inside);
        crate::copy_program(program, &path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        self
    }

    fn vacate(&self, inside: &str) -> PathBuf {
        let path = self.path(inside);
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => fs::remove_dir_all(&path).expect("to remove a directory"),
            Ok(_) => fs::remove_file(&path).expect("to remove a file"),
            Err(_) => {}
        }
        fs::create_dir_all(path.parent().expect("a parent")).expect("the directory of a file");
        path
    }

    /// Writes `config.json`. The runtime does so by itself; a test that wants other bytes writes them and calls
    /// [`crate::Runtime::command`].
    pub fn save(&self) {
        self.save_as(&self.config);
    }

    pub(crate) fn save_as(&self, config: &Value) {
        let text = serde_json::to_vec(config).expect("JSON");
        fs::write(self.dir.path().join("config.json"), text).expect("config.json");
    }
}

/// Gives a tree to another user. Links are not followed.
fn own(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).expect("the owner of a file");
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        for entry in fs::read_dir(path).expect("a directory").flatten() {
            own(&entry.path(), id);
        }
    }
}
