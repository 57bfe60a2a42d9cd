//! Mounts a user asks for — `Binds`, `Mounts`, `Tmpfs`, `VolumesFrom`, volumes of the image — parsed
//! and checked into [`MountRecord`]s. Names of volumes are made here, the volumes themselves by
//! create. Parsing is pure; sources are looked at by [`check_sources`]. Called by create and start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use docker_types::container::{ContainerConfig, HostConfig, Mount};
use sys::Errno;

use super::random_id;
use super::record::{MountRecord, MountType, Record};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::volume::patience::LIMIT;
use crate::volume::{pin, reason};

/// Annotations of this prefix and a destination carry what Docker's `--mount` has no field for.
const ANNOTATION: &str = "dhow.mount:";

/// A mount, and for a new volume the labels and driver options it is to be made with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub mount: MountRecord,
    pub labels: BTreeMap<String, String>,
    pub driver_options: BTreeMap<String, String>,
    /// Bind sources of the short form are made when missing.
    pub create_source: bool,
    /// Those of the long form must be there.
    pub must_exist: bool,
}

/// Look whether bind sources are there that have to be.
///
/// # Errors
/// In Docker's words; Timeout for a file system that does not answer.
pub(crate) async fn check_sources(inner: &Inner, wanted: &[Wanted]) -> Result<()> {
    for wanted in wanted.iter().filter(|wanted| wanted.must_exist) {
        let source = wanted.mount.source.clone();
        let doing = format!("look at the bind source {source}");
        let subject = format!("path {source}");
        inner.volumes.patience.run(&subject, doing, LIMIT, move || found(&source)).await?;
    }
    Ok(())
}

fn found(source: &str) -> Result<()> {
    match pin(Path::new(source)) {
        Ok(_) => Ok(()),
        Err(errno) => Err(unusable(source, errno)),
    }
}

/// Whether a path is the engine's directory, is in it, or has it below itself.
pub(crate) fn concerns(data_root: &Path, source: &str) -> bool {
    let source = Path::new(source);
    source.starts_with(data_root) || data_root.starts_with(source)
}

/// The propagation of a bind that names none. What is mounted below the engine's directory, volumes for one, must not stay
/// mounted in a container that shows the directory when it goes on the host: such a bind follows the host.
///
/// # Errors
/// Invalid, in Docker's words, for such a bind that is to do otherwise.
fn settle_propagation(mount: &mut MountRecord, data_root: &Path) -> Result<()> {
    let within = concerns(data_root, &mount.source);
    match mount.propagation.as_str() {
        "" => mount.propagation = if within { "rslave" } else { "rprivate" }.to_owned(),
        "rslave" | "rshared" => {}
        other if within => {
            return Err(fail!(
                Invalid,
                "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: \"{}\", bind mount source: \"{}\", propagation: \"{other}\"",
                data_root.display(),
                mount.source
            ));
        }
        _ => {}
    }
    Ok(())
}

/// A bind source that cannot be opened.
pub(crate) fn unusable(source: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOENT | Errno::NOTDIR => {
            fail!(Invalid, "invalid mount config for type \"bind\": bind source path does not exist: {source}")
        }
        Errno::LOOP => fail!(
            Invalid,
            "invalid mount config for type \"bind\": bind source path cannot be used: {source}: too many levels of symbolic links, or a link of /proc that is another file for each process"
        ),
        _ => fail!(
            Invalid,
            "invalid mount config for type \"bind\": bind source path cannot be used: {source}: {}",
            reason(errno)
        ),
    }
}

/// Make the source of a bind where it is missing.
///
/// # Errors
/// In Docker's words; Timeout for a file system that does not answer.
pub(crate) async fn make_source(inner: &Inner, source: &str) -> Result<()> {
    let subject = format!("path {source}");
    let doing = format!("make the source of a bind mount, {source}");
    let source = source.to_owned();
    let work = move || match pin(Path::new(&source)) {
        Ok(_) => Ok(()),
        Err(Errno::NOENT | Errno::NOTDIR) => match std::fs::create_dir_all(&source) {
            Ok(()) => Ok(()),
            Err(_) if pin(Path::new(&source)).is_ok() => Ok(()),
            Err(e) => {
                let why = Errno::from_io_error(&e).map_or_else(|| e.to_string(), reason);
                Err(fail!(Invalid, "error while creating mount source path '{source}': mkdir {source}: {why}"))
            }
        },
        Err(errno) => Err(unusable(&source, errno)),
    };
    inner.volumes.patience.run(&subject, doing, LIMIT, work).await
}

/// Everything asked for, by destination. `donor` finds a container of `--volumes-from`.
pub(crate) fn collect(
    host: &HostConfig,
    config: &ContainerConfig,
    data_root: &Path,
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
    for wanted in list.iter_mut().filter(|wanted| wanted.mount.kind == MountType::Bind) {
        settle_propagation(&mut wanted.mount, data_root)?;
    }
    for from in host.volumes_from.iter().flatten() {
        if from.is_empty() {
            return Err(fail!(Invalid, "volumes-from specification cannot be an empty string"));
        }
        let (name, mode) = from.split_once(':').unwrap_or((from, ""));
        let inherited = |words: &Words<'_>| words.copy.is_none() && words.propagation.is_none() && !words.owner();
        let words = Words::parse(mode).ok().filter(inherited);
        let words = words.ok_or_else(|| fail!(Invalid, "invalid mode: {mode}"))?;
        for mount in &donor(name)?.mounts {
            if taken.insert(mount.destination.clone()) {
                let rw = mount.rw && !words.read_only;
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
    annotate(host, &mut list)?;
    Ok(list)
}

/// Options that came as annotations.
fn annotate(host: &HostConfig, list: &mut [Wanted]) -> Result<()> {
    for (key, value) in &host.annotations {
        let Some(target) = key.strip_prefix(ANNOTATION) else { continue };
        let invalid = |why: &str| fail!(Invalid, "invalid annotation {key}={value}: {why}");
        let target = clean(target);
        let wanted = list.iter_mut().find(|wanted| wanted.mount.destination == target);
        let mount = &mut wanted.ok_or_else(|| invalid("nothing is mounted there"))?.mount;
        let words = Words::parse(value).map_err(|_| invalid("only uid=N and gid=N are known"))?;
        if words.plain > 0 || !words.owner() {
            return Err(invalid("only uid=N and gid=N are known"));
        }
        words.apply_owner(mount).map_err(|why| invalid(&why))?;
    }
    Ok(())
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
    let plain = || fail!(Invalid, "invalid volume specification: '{text}'");
    let invalid = |kind: &str, why: String| {
        fail!(Invalid, "invalid volume specification: '{text}': invalid mount config for type \"{kind}\": {why}")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        ["", ..] => return Err(plain()),
        [target] => ("", target, ""),
        // A destination and a mode: an anonymous volume has none.
        [_, mode] if Words::parse(mode).is_ok() => return Err(plain()),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(plain()),
    };
    let words = Words::parse(mode).map_err(|()| fail!(Invalid, "invalid mode: {mode}"))?;
    let is_bind = source.starts_with('/');
    let kind = if is_bind { "bind" } else { "volume" };
    if target.is_empty() {
        return Err(invalid(kind, "field Target must not be empty".into()));
    }
    let destination = destination(target).map_err(|why| invalid(kind, why))?;
    if is_bind && words.copy.is_some() {
        return Err(invalid(kind, "field VolumeOptions must not be specified".into()));
    }
    if !is_bind && words.propagation.is_some() {
        return Err(invalid(kind, "field BindOptions must not be specified".into()));
    }
    if source.is_empty() {
        return Ok(Wanted { mount: anonymous(destination), ..Wanted::default() });
    }
    let mut mount = MountRecord {
        kind: if is_bind { MountType::Bind } else { MountType::Volume },
        destination,
        mode: mode.to_owned(),
        rw: !words.read_only,
        no_copy: words.copy == Some(false),
        ..MountRecord::default()
    };
    words.apply_owner(&mut mount).map_err(|why| invalid(kind, why))?;
    if is_bind {
        check_length(source).map_err(|why| invalid(kind, why))?;
        mount.source = clean(source);
        mount.propagation = words.propagation.unwrap_or_default().to_owned();
    } else {
        mount.name = source.to_owned();
        mount.driver = if volume_driver.is_empty() { "local" } else { volume_driver }.to_owned();
        if mount.mode.is_empty() {
            mount.mode = "z".into();
        }
    }
    Ok(Wanted { mount, create_source: is_bind, ..Wanted::default() })
}

/// The words of a mode: `ro,z,nocopy,rslave`, and ours: `uid=1000,gid=1000`.
#[derive(Debug, Default)]
struct Words<'a> {
    read_only: bool,
    copy: Option<bool>,
    propagation: Option<&'a str>,
    uid: Option<u32>,
    gid: Option<u32>,
    idmap: bool,
    /// Words of Docker's.
    plain: usize,
}

impl<'a> Words<'a> {
    /// One word of each kind at most, in any order; no mode is one of no words.
    fn parse(mode: &'a str) -> std::result::Result<Self, ()> {
        let mut words = Self::default();
        let (mut access, mut label, mut consistency) = (0, 0, 0);
        for word in mode.split(',').filter(|_| !mode.is_empty()) {
            let own = match word.split_once('=') {
                Some(("uid", id)) => words.uid.replace(number(id)?).is_some(),
                Some(("gid", id)) => words.gid.replace(number(id)?).is_some(),
                None if word == "idmap" => std::mem::replace(&mut words.idmap, true),
                _ => {
                    words.plain += 1;
                    match word {
                        "rw" => access += 1,
                        "ro" => {
                            access += 1;
                            words.read_only = true;
                        }
                        "z" | "Z" => label += 1,
                        "consistent" | "cached" | "delegated" => consistency += 1,
                        "copy" | "nocopy" => {
                            if words.copy.replace(word == "copy").is_some() {
                                return Err(());
                            }
                        }
                        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                            if words.propagation.replace(word).is_some() {
                                return Err(());
                            }
                        }
                        _ => return Err(()),
                    }
                    false
                }
            };
            if own {
                return Err(());
            }
        }
        if access > 1 || label > 1 || consistency > 1 { Err(()) } else { Ok(words) }
    }

    /// Something is said about the owner.
    fn owner(&self) -> bool {
        self.uid.is_some() || self.gid.is_some() || self.idmap
    }

    /// # Errors
    /// For `idmap` alone: there is no user namespace to map to.
    fn apply_owner(&self, mount: &mut MountRecord) -> std::result::Result<(), String> {
        if self.idmap {
            return Err(
                "idmap maps to the container's user namespace, and containers have none here: name the owner with uid=N,gid=N"
                    .into(),
            );
        }
        if (self.uid.is_some() || self.gid.is_some()) && !matches!(mount.kind, MountType::Bind | MountType::Volume) {
            return Err("uid and gid are for binds and volumes alone".into());
        }
        mount.uid = self.uid.or(mount.uid);
        mount.gid = self.gid.or(mount.gid);
        Ok(())
    }
}

/// An id as people write it; the last number is no id.
fn number(text: &str) -> std::result::Result<u32, ()> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX).ok_or(())
}

/// Go's `filepath.IsLocal`: a path that by its text alone stays where it begins.
fn is_local(path: &str) -> bool {
    let mut depth = 0_i64;
    for part in Path::new(path).components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    !path.is_empty() && !path.contains('\0')
}

/// The path below a volume or image, by its text.
fn subpath(text: &str) -> std::result::Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if !is_local(text) || check_length(text).is_err() {
        return Err("subpath must be a relative path within the volume".into());
    }
    Ok(clean(text).trim_start_matches('/').to_owned())
}

fn parse_mount(m: &Mount) -> Result<Wanted> {
    let invalid = |why: String| fail!(Invalid, "invalid mount config for type \"{}\": {why}", m.kind);
    for (present, options, kinds) in [
        (m.bind_options.is_some(), "BindOptions", &["bind"][..]),
        (m.volume_options.is_some(), "VolumeOptions", &["volume", "cluster"]),
        (m.tmpfs_options.is_some(), "TmpfsOptions", &["tmpfs"]),
    ] {
        if present && !kinds.contains(&m.kind.as_str()) {
            return Err(fail!(Invalid, "{options} must not be specified on mount type {:?}", m.kind));
        }
    }
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
            if m.source.is_empty() {
                return Err(invalid("field Source must not be empty".into()));
            }
            only(m.image_options.is_some(), "ImageOptions")?;
            if !m.source.starts_with('/') {
                return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", m.source)));
            }
            check_length(&m.source).map_err(&invalid)?;
            mount.kind = MountType::Bind;
            mount.source = clean(&m.source);
            let options = m.bind_options.clone().unwrap_or_default();
            mount.propagation = match options.propagation.as_str() {
                "" | "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => options.propagation,
                other => return Err(invalid(format!("invalid propagation mode: {other}"))),
            };
            mount.non_recursive = options.non_recursive;
            mount.read_only_non_recursive = options.read_only_non_recursive;
            mount.read_only_force_recursive = options.read_only_force_recursive;
            wanted.create_source = options.create_mountpoint;
            wanted.must_exist = !options.create_mountpoint;
        }
        "volume" => {
            only(m.image_options.is_some(), "ImageOptions")?;
            if m.source.is_empty() && m.read_only {
                return Err(invalid("must not set ReadOnly mode when using anonymous volumes".into()));
            }
            let options = m.volume_options.clone().unwrap_or_default();
            mount.kind = MountType::Volume;
            mount.anonymous = m.source.is_empty();
            mount.name = if m.source.is_empty() { random_id() } else { m.source.clone() };
            mount.no_copy = options.no_copy;
            if mount.anonymous && !options.subpath.is_empty() {
                return Err(invalid("must not set Subpath when using anonymous volumes".into()));
            }
            mount.subpath = subpath(&options.subpath).map_err(&invalid)?;
            let driver = options.driver_config.unwrap_or_default();
            mount.driver = if driver.name.is_empty() { "local".into() } else { driver.name };
            mount.mode = "z".into();
            wanted.labels = options.labels;
            wanted.driver_options = driver.options;
        }
        "tmpfs" => {
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
            for option in &options.options {
                match option.as_slice() {
                    [word] if matches!(word.as_str(), "exec" | "noexec") => words.push(word.clone()),
                    [word, _] if matches!(word.as_str(), "exec" | "noexec") => words.push(option.join("=")),
                    [word] | [word, _] => return Err(invalid(format!("invalid option: {word}"))),
                    _ => return Err(invalid("invalid option array length".into())),
                }
            }
            mount.options = words.join(",");
            tmpfs_options(&mount.options).map_err(&invalid)?;
        }
        "image" => {
            if m.source.is_empty() {
                return Err(invalid("field Source must not be empty".into()));
            }
            mount.kind = MountType::Image;
            mount.source.clone_from(&m.source);
            mount.rw = false;
            mount.propagation = "rprivate".into();
            if let Some(options) = &m.image_options {
                mount.subpath = subpath(&options.subpath).map_err(&invalid)?;
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
    let invalid = |why: String| fail!(Invalid, "{why}");
    let destination = destination(target).map_err(invalid)?;
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
            _ => return Err(format!("invalid tmpfs option {word:?}")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binds(list: &[&str]) -> Result<Vec<Wanted>> {
        let host = HostConfig { binds: Some(list.iter().map(|s| (*s).to_owned()).collect()), ..HostConfig::default() };
        collect(&host, &ContainerConfig::default(), Path::new("/var/lib/dhow"), |r| {
            Err(crate::Error::no_such_container(r))
        })
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
            ("/tmp:/data:rro", "invalid mode: rro"),
            ("/a:/x:ro,", "invalid mode: ro,"),
            ("/data:ro", "invalid volume specification: '/data:ro'"),
            (":/data", "invalid volume specification: ':/data'"),
            (
                "w::ro",
                "invalid volume specification: 'w::ro': invalid mount config for type \"volume\": field Target must not be empty",
            ),
            (
                "w:/data:rshared",
                "invalid volume specification: 'w:/data:rshared': invalid mount config for type \"volume\": field BindOptions must not be specified",
            ),
            (
                "/tmp:/data:nocopy",
                "invalid volume specification: '/tmp:/data:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            ("a:/x:uid=-1", "invalid mode: uid=-1"),
            ("a:/x:uid=4294967295", "invalid mode: uid=4294967295"),
            ("a:/x:uid=1,uid=2", "invalid mode: uid=1,uid=2"),
        ] {
            assert_eq!(binds(&[spec]).unwrap_err().to_string(), text);
        }
        assert_eq!(binds(&["/a:/x", "b:/x/"]).unwrap_err().to_string(), "Duplicate mount point: /x");
    }

    #[test]
    fn owners_by_mode_and_by_annotation() {
        let list = binds(&["/a:/x:ro,uid=1000,gid=7", "vol:/v:uid=0"]).unwrap();
        assert_eq!((list[0].mount.uid, list[0].mount.gid, list[0].mount.rw), (Some(1000), Some(7), false));
        assert_eq!((list[1].mount.uid, list[1].mount.gid), (Some(0), None));
        assert!(binds(&["/a:/x:idmap"]).unwrap_err().to_string().contains("user namespace"));

        let annotated = |key: &str, value: &str| {
            let host = HostConfig {
                binds: Some(vec!["/a:/x".into()]),
                annotations: [(key.to_owned(), value.to_owned())].into(),
                ..HostConfig::default()
            };
            collect(&host, &ContainerConfig::default(), Path::new("/var/lib/dhow"), |r| {
                Err(crate::Error::no_such_container(r))
            })
        };
        assert_eq!(annotated("dhow.mount:/x/", "uid=5").unwrap()[0].mount.uid, Some(5));
        assert_eq!(annotated("other", "uid=5").unwrap()[0].mount.uid, None);
        for (key, value) in [("dhow.mount:/y", "uid=5"), ("dhow.mount:/x", "ro"), ("dhow.mount:/x", "")] {
            assert!(annotated(key, value).is_err(), "{key} {value}");
        }
    }

    #[test]
    fn binds_of_the_engines_directory_follow_the_host() {
        let propagation = |bind: &str| binds(&[bind]).map(|list| list[0].mount.propagation.clone());
        for inside in ["/:/x", "/var:/x", "/var/lib/dhow:/x:ro", "/var/lib/dhow/volumes/a:/x", "/var/lib/../lib:/x"] {
            assert_eq!(propagation(inside).unwrap(), "rslave", "{inside}");
        }
        for outside in ["/var/lib/dhowd:/x", "/var/lib/dho:/x", "/srv:/x"] {
            assert_eq!(propagation(outside).unwrap(), "rprivate", "{outside}");
        }
        assert_eq!(propagation("/var:/x:rshared").unwrap(), "rshared");
        assert_eq!(propagation("/srv:/x:private").unwrap(), "private");
        for refused in ["private", "rprivate", "slave", "shared"] {
            let error = propagation(&format!("/var:/x:{refused}")).unwrap_err().to_string();
            assert!(error.starts_with("invalid mount config: must use either propagation mode \"rslave\""), "{error}");
        }
    }

    #[test]
    fn paths_that_stay_where_they_begin() {
        for path in ["a", "a/b", "a/../b", "./a", "a/.."] {
            assert!(is_local(path), "{path}");
        }
        for path in ["", "/a", "..", "../a", "a/../../b", "a/../.."] {
            assert!(!is_local(path), "{path}");
        }
        assert_eq!(subpath("a/../b/").unwrap(), "b");
    }

    #[test]
    fn tmpfs_words() {
        let parsed = tmpfs_options("rw,exec,size=64m,mode=1777").unwrap();
        assert_eq!(parsed.attrs, sys::mount::attr::NOSUID | sys::mount::attr::NODEV);
        assert_eq!(parsed.options.len(), 2);
        assert!(tmpfs_options("foo").is_err() && tmpfs_options("size=").is_err());
    }
}
