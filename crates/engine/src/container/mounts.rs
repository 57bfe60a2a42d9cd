//! Mounts a user asks for — `Binds`, `Mounts`, `Tmpfs`, `VolumesFrom`, volumes of the image — parsed
//! and checked into [`MountRecord`]s. Names of volumes are made here, the volumes themselves by
//! create. Pure but for looking at bind sources. Called by create.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use docker_types::container::{ContainerConfig, HostConfig, Mount};

use super::random_id;
use super::record::{MountRecord, MountType, Record};
use crate::error::{Result, fail};

/// A mount, and for a new volume the labels and driver options it is to be made with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub mount: MountRecord,
    pub labels: BTreeMap<String, String>,
    pub driver_options: BTreeMap<String, String>,
    /// Bind sources of the short form are made when missing.
    pub create_source: bool,
}

/// Everything asked for, by destination. `donor` finds a container of `--volumes-from`.
pub(crate) fn collect(
    host: &HostConfig,
    config: &ContainerConfig,
    donor: impl Fn(&str) -> Result<std::sync::Arc<Record>>,
) -> Result<Vec<Wanted>> {
    let mut list: Vec<Wanted> = Vec::new();
    let mut taken = BTreeSet::new();
    // Lowest precedence is filled in last, so what is there already wins.
    for bind in host.binds.iter().flatten() {
        let wanted = parse_bind(bind, &host.volume_driver)?;
        if !taken.insert(wanted.mount.destination.clone()) {
            return Err(fail!(Invalid, "Duplicate mount point: {}", wanted.mount.destination));
        }
        list.push(wanted);
    }
    for mount in &host.mounts {
        let wanted = parse_mount(mount)?;
        if !taken.insert(wanted.mount.destination.clone()) {
            return Err(fail!(Invalid, "Duplicate mount point: {}", wanted.mount.destination));
        }
        list.push(wanted);
    }
    for (target, options) in &host.tmpfs {
        let wanted = parse_tmpfs(target, options)?;
        if !taken.insert(wanted.mount.destination.clone()) {
            return Err(fail!(Invalid, "Duplicate mount point: {}", wanted.mount.destination));
        }
        list.push(wanted);
    }
    for from in host.volumes_from.iter().flatten() {
        let (name, mode) = from.split_once(':').unwrap_or((from, "rw"));
        if !matches!(mode, "rw" | "ro" | "z" | "Z") {
            return Err(fail!(Invalid, "invalid mode: {mode}"));
        }
        for mount in &donor(name)?.mounts {
            if taken.insert(mount.destination.clone()) {
                let rw = mount.rw && mode != "ro";
                // The volume belongs to the donor: it does not go with this container.
                let mount = MountRecord { rw, anonymous: false, no_copy: true, ..mount.clone() };
                list.push(Wanted { mount, ..Wanted::default() });
            }
        }
    }
    for target in config.volumes.iter().flat_map(|v| v.keys()) {
        let destination = destination(target).map_err(|why| {
            fail!(Invalid, "invalid volume specification: '{target}': invalid mount config for type \"volume\": {why}")
        })?;
        if taken.insert(destination.clone()) {
            list.push(Wanted { mount: anonymous(destination), ..Wanted::default() });
        }
    }
    Ok(list)
}

fn anonymous(destination: String) -> MountRecord {
    MountRecord {
        kind: MountType::Volume,
        name: random_id(),
        destination,
        driver: "local".into(),
        rw: true,
        anonymous: true,
        ..MountRecord::default()
    }
}

/// Absolute and clean; an error text otherwise.
fn destination(text: &str) -> std::result::Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("invalid mount path: '{text}' mount path must be absolute"));
    }
    check_length(text)?;
    let clean = clean(text);
    if clean == "/" {
        return Err("invalid specification: destination can't be '/'".into());
    }
    Ok(clean)
}

/// What no path lookup accepts (path_resolution(7)): NUL bytes, 4096 bytes, components of 256.
fn check_length(path: &str) -> std::result::Result<(), String> {
    if path.contains('\0') {
        return Err("invalid mount path: a NUL byte".into());
    }
    if path.len() >= 4096 || path.split('/').any(|c| c.len() > 255) {
        return Err("invalid mount path: file name too long".into());
    }
    Ok(())
}

/// Lexical clean-up as Go's `filepath.Clean` does for absolute paths.
pub(crate) fn clean(path: &str) -> String {
    let mut out = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out.to_string_lossy().into_owned()
}

/// `source:destination[:mode]`, or a destination alone.
fn parse_bind(text: &str, volume_driver: &str) -> Result<Wanted> {
    let invalid = |kind: &str, why: String| {
        fail!(Invalid, "invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {why}")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] if !target.is_empty() => ("", target, ""),
        [source, target] if !source.is_empty() && !target.is_empty() => (source, target, ""),
        [source, target, mode] if !source.is_empty() && !target.is_empty() => (source, target, mode),
        _ => return Err(fail!(Invalid, "invalid volume specification: '{text}'")),
    };
    let is_bind = source.starts_with('/');
    let kind = if is_bind { "bind" } else { "volume" };
    let destination = destination(target).map_err(|why| invalid(kind, why))?;
    if !is_bind && source.is_empty() {
        return Ok(Wanted { mount: anonymous(destination), ..Wanted::default() });
    }
    let mut mount = MountRecord {
        kind: if is_bind { MountType::Bind } else { MountType::Volume },
        destination,
        mode: mode.to_owned(),
        rw: true,
        ..MountRecord::default()
    };
    parse_mode(mode, &mut mount, is_bind)?;
    if is_bind {
        check_length(source).map_err(|why| invalid(kind, why))?;
        mount.source = clean(source);
        if mount.propagation.is_empty() {
            mount.propagation = "rprivate".into();
        }
    } else {
        mount.name = source.to_owned();
        mount.driver = if volume_driver.is_empty() { "local" } else { volume_driver }.to_owned();
        if mount.mode.is_empty() {
            mount.mode = "z".into();
        }
    }
    Ok(Wanted { mount, create_source: is_bind, ..Wanted::default() })
}

fn parse_mode(mode: &str, mount: &mut MountRecord, is_bind: bool) -> Result<()> {
    let invalid = || fail!(Invalid, "invalid mode: {mode}");
    let (mut access, mut label, mut copy, mut consistency) = (0, 0, 0, 0);
    for word in mode.split(',').filter(|w| !w.is_empty()) {
        match word {
            "rw" => access += 1,
            "ro" | "rro" => {
                access += 1;
                mount.rw = false;
            }
            "z" | "Z" => label += 1,
            "nocopy" if !is_bind => {
                copy += 1;
                mount.no_copy = true;
            }
            "copy" if !is_bind => copy += 1,
            "consistent" | "cached" | "delegated" | "default" => consistency += 1,
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if is_bind => {
                if !mount.propagation.is_empty() {
                    return Err(invalid());
                }
                mount.propagation = word.to_owned();
            }
            _ => return Err(invalid()),
        }
    }
    if access > 1 || label > 1 || copy > 1 || consistency > 1 {
        return Err(invalid());
    }
    Ok(())
}

fn parse_mount(m: &Mount) -> Result<Wanted> {
    let invalid = |why: String| fail!(Invalid, "invalid mount config for type \"{}\": {why}", m.kind);
    if m.target.is_empty() {
        return Err(invalid("field Target must not be empty".into()));
    }
    let destination = destination(&m.target).map_err(&invalid)?;
    let mut mount = MountRecord { destination, rw: !m.read_only, ..MountRecord::default() };
    let only = |present: bool, field: &str| {
        if present { Err(invalid(format!("field {field} must not be specified"))) } else { Ok(()) }
    };
    let mut wanted = Wanted::default();
    match m.kind.as_str() {
        "bind" => {
            only(m.volume_options.is_some(), "VolumeOptions")?;
            only(m.tmpfs_options.is_some(), "TmpfsOptions")?;
            only(m.image_options.is_some(), "ImageOptions")?;
            if m.source.is_empty() {
                return Err(invalid("field Source must not be empty".into()));
            }
            if !m.source.starts_with('/') {
                return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", m.source)));
            }
            check_length(&m.source).map_err(&invalid)?;
            mount.kind = MountType::Bind;
            mount.source = clean(&m.source);
            let options = m.bind_options.clone().unwrap_or_default();
            mount.propagation = match options.propagation.as_str() {
                "" => "rprivate".into(),
                "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => options.propagation,
                other => return Err(invalid(format!("invalid propagation mode: {other}"))),
            };
            mount.non_recursive = options.non_recursive;
            mount.read_only_non_recursive = options.read_only_non_recursive;
            if options.create_mountpoint {
                wanted.create_source = true;
            } else if !Path::new(&mount.source).exists() {
                return Err(invalid(format!("bind source path does not exist: {}", mount.source)));
            }
        }
        "volume" => {
            only(m.bind_options.is_some(), "BindOptions")?;
            only(m.tmpfs_options.is_some(), "TmpfsOptions")?;
            only(m.image_options.is_some(), "ImageOptions")?;
            if m.source.is_empty() && m.read_only {
                return Err(invalid("must not set ReadOnly mode when using anonymous volumes".into()));
            }
            let options = m.volume_options.clone().unwrap_or_default();
            mount.kind = MountType::Volume;
            mount.anonymous = m.source.is_empty();
            mount.name = if m.source.is_empty() { random_id() } else { m.source.clone() };
            mount.no_copy = options.no_copy;
            if Path::new(&options.subpath).components().any(|c| !matches!(c, Component::Normal(_))) {
                return Err(invalid(format!("subpath must be a relative path within the volume: {}", options.subpath)));
            }
            mount.subpath = options.subpath;
            let driver = options.driver_config.unwrap_or_default();
            mount.driver = if driver.name.is_empty() { "local".into() } else { driver.name };
            mount.mode = "z".into();
            wanted.labels = options.labels;
            wanted.driver_options = driver.options;
        }
        "tmpfs" => {
            only(m.bind_options.is_some(), "BindOptions")?;
            only(m.volume_options.is_some(), "VolumeOptions")?;
            only(m.image_options.is_some(), "ImageOptions")?;
            only(!m.source.is_empty(), "Source")?;
            mount.kind = MountType::Tmpfs;
            let options = m.tmpfs_options.clone().unwrap_or_default();
            let mut words: Vec<String> = Vec::new();
            if options.size_bytes < 0 {
                return Err(invalid("size must not be negative".into()));
            }
            if options.size_bytes > 0 {
                words.push(format!("size={}", options.size_bytes));
            }
            if options.mode != 0 {
                words.push(format!("mode={:o}", options.mode & 0o7777));
            }
            words.extend(options.options.iter().filter(|o| !o.is_empty()).map(|o| o.join("=")));
            mount.options = words.join(",");
            tmpfs_options(&mount.options).map_err(&invalid)?;
        }
        "image" => {
            only(m.bind_options.is_some(), "BindOptions")?;
            only(m.volume_options.is_some(), "VolumeOptions")?;
            only(m.tmpfs_options.is_some(), "TmpfsOptions")?;
            if m.source.is_empty() {
                return Err(invalid("field Source must not be empty".into()));
            }
            mount.kind = MountType::Image;
            mount.source.clone_from(&m.source);
            mount.rw = false;
            if let Some(options) = &m.image_options {
                if Path::new(&options.subpath).components().any(|c| !matches!(c, Component::Normal(_))) {
                    return Err(invalid(format!("subpath must be a relative path: {}", options.subpath)));
                }
                mount.subpath.clone_from(&options.subpath);
            }
        }
        other => {
            return Err(fail!(Invalid, "invalid mount config for type \"{other}\": mount type unknown"));
        }
    }
    wanted.mount = mount;
    Ok(wanted)
}

fn parse_tmpfs(target: &str, options: &str) -> Result<Wanted> {
    let invalid = |why: String| {
        fail!(
            Invalid,
            "invalid tmpfs specification '{target}:{options}': invalid mount config for type \"tmpfs\": {why}"
        )
    };
    let destination = destination(target).map_err(&invalid)?;
    let parsed = tmpfs_options(options).map_err(invalid)?;
    let mount = MountRecord {
        kind: MountType::Tmpfs,
        destination,
        rw: parsed.attrs & sys::mount::attr::RDONLY == 0,
        options: options.to_owned(),
        ..MountRecord::default()
    };
    Ok(Wanted { mount, ..Wanted::default() })
}

/// The mount attributes and file system options of a tmpfs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TmpfsOptions {
    pub attrs: u64,
    pub options: Vec<(String, Option<String>)>,
}

/// Parse `rw,noexec,size=64m,…`; `noexec,nosuid,nodev` are the defaults.
pub(crate) fn tmpfs_options(text: &str) -> std::result::Result<TmpfsOptions, String> {
    use sys::mount::attr;
    let mut out = TmpfsOptions { attrs: attr::NOEXEC | attr::NOSUID | attr::NODEV, options: Vec::new() };
    for word in text.split(',').filter(|w| !w.is_empty()) {
        let (key, value) = word.split_once('=').map_or((word, None), |(k, v)| (k, Some(v)));
        match (key, value) {
            ("ro", None) => out.attrs |= attr::RDONLY,
            ("rw", None) => out.attrs &= !attr::RDONLY,
            ("exec", None) => out.attrs &= !attr::NOEXEC,
            ("noexec", None) => out.attrs |= attr::NOEXEC,
            ("suid", None) => out.attrs &= !attr::NOSUID,
            ("nosuid", None) => out.attrs |= attr::NOSUID,
            ("dev", None) => out.attrs &= !attr::NODEV,
            ("nodev", None) => out.attrs |= attr::NODEV,
            ("noatime", None) => out.attrs |= attr::NOATIME,
            ("nodiratime", None) => out.attrs |= attr::NODIRATIME,
            ("strictatime", None) => out.attrs |= attr::STRICTATIME,
            (
                "atime" | "relatime" | "norelatime" | "defaults" | "async" | "sync" | "dirsync" | "private"
                | "rprivate" | "tmpcopyup" | "diratime",
                None,
            ) => {}
            ("size" | "nr_blocks" | "nr_inodes" | "mode" | "uid" | "gid" | "mpol" | "huge", Some(value))
                if !value.is_empty() =>
            {
                out.options.push((key.to_owned(), Some(value.to_owned())));
            }
            _ => return Err(format!("invalid tmpfs option [{word:?}]")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binds(list: &[&str]) -> Result<Vec<Wanted>> {
        let host = HostConfig { binds: Some(list.iter().map(|s| (*s).to_owned()).collect()), ..HostConfig::default() };
        collect(&host, &ContainerConfig::default(), |r| Err(crate::Error::no_such_container(r)))
    }

    #[test]
    fn short_forms() {
        let list = binds(&["/a/../b:/x/:ro,rslave", "vol:/v:nocopy", "/anon"]).unwrap();
        let first = &list[0].mount;
        assert_eq!((first.source.as_str(), first.destination.as_str()), ("/b", "/x"));
        assert_eq!((first.rw, first.propagation.as_str(), list[0].create_source), (false, "rslave", true));
        assert_eq!((list[1].mount.name.as_str(), list[1].mount.no_copy), ("vol", true));
        assert!(list[2].mount.anonymous && list[2].mount.name.len() == 64);
    }

    #[test]
    fn refusals_in_dockers_words() {
        for (spec, text) in [
            (
                "/rel/../x:rel",
                "invalid volume specification: '/rel/../x:rel': invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute",
            ),
            (
                "/tmp:/",
                "invalid volume specification: '/tmp:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            ("a:/x:foo", "invalid mode: foo"),
            ("a:/x:ro,rw", "invalid mode: ro,rw"),
            ("a:/x:ro:z", "invalid volume specification: 'a:/x:ro:z'"),
        ] {
            assert_eq!(binds(&[spec]).unwrap_err().to_string(), text);
        }
        assert_eq!(binds(&["/a:/x", "b:/x/"]).unwrap_err().to_string(), "Duplicate mount point: /x");
    }

    #[test]
    fn tmpfs_words() {
        let parsed = tmpfs_options("rw,exec,size=64m,mode=1777").unwrap();
        assert_eq!(parsed.attrs, sys::mount::attr::NOSUID | sys::mount::attr::NODEV);
        assert_eq!(parsed.options.len(), 2);
        assert!(tmpfs_options("foo").is_err() && tmpfs_options("size=").is_err());
    }
}
