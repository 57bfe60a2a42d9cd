//! `mounts` of the configuration as the launch plan has them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use launch::{Mount, MountKind};
use sys::Errno;

use super::{Fds, Options};
use crate::bundle::Bundle;
use crate::error::{Doing, Error, Result};
use crate::idmap::Maps;

/// Every mount, in order. `opened_by_us`: sources are opened here, since the container's root may not reach them.
pub(super) fn mounts(
    bundle: &Bundle,
    in_user_namespace: bool,
    opened_by_us: bool,
    fds: &mut Fds,
) -> Result<Vec<Mount>> {
    let spec = &bundle.spec;
    let label = spec.linux.as_ref().map(|linux| linux.mount_label.as_str()).unwrap_or_default();
    let mut mounts = Vec::with_capacity(spec.mounts.len());
    for (at, mount) in spec.mounts.iter().enumerate() {
        let options = Options::parse(&mount.options);
        let target = oci::clean_path(&mount.destination);
        let mapped = options.idmap.is_some() || !mount.uid_mappings.is_empty();
        let kind = match (options.bind, mount.kind.as_str()) {
            (bind @ Some(_), _) | (bind, "bind") => {
                let recursive = bind.unwrap_or(false);
                // A relative source is relative to the bundle.
                let source = bundle.dir.join(&mount.source);
                if opened_by_us || mapped {
                    let tree = open(at, &source, recursive)?;
                    // Here, since it takes rights over the file system, which a container's root may not have.
                    if mapped {
                        let maps = namespace(bundle, at, in_user_namespace)?;
                        sys::mount::set_idmap(tree.as_fd(), maps.as_fd(), options.idmap == Some(true))
                            .doing(|| format!("map the ids of config.json: mounts[{at}]"))?;
                    }
                    MountKind::Detached(fds.push(tree))
                } else {
                    MountKind::Path { source: path_text(at, &source)?, recursive }
                }
            }
            (None, "cgroup" | "cgroup2") => MountKind::Cgroup,
            (None, "") => {
                return Err(Error::Other(format!(
                    "config.json: mounts[{at}].type: is missing and no option says bind; name the file system"
                )));
            }
            (None, fstype) => {
                if mapped {
                    return Err(Error::Other(format!(
                        "config.json: mounts[{at}]: ids can be mapped for bind mounts only"
                    )));
                }
                let mut data = options.data.clone();
                if !label.is_empty() && !matches!(fstype, "proc" | "sysfs") {
                    data.push(("context".to_owned(), Some(label.to_owned())));
                }
                let source = if mount.source.is_empty() { fstype } else { mount.source.as_str() };
                MountKind::Fs { fstype: fstype.to_owned(), source: source.to_owned(), options: data }
            }
        };
        let is_bind = matches!(kind, MountKind::Path { .. } | MountKind::Detached(_));
        let foreign = options.foreign_to_binds();
        if is_bind && !foreign.is_empty() {
            return Err(Error::Other(format!(
                "config.json: mounts[{at}].options: {} is no option of a bind mount",
                foreign.join(", ")
            )));
        }
        if options.copy_up && !matches!(&kind, MountKind::Fs { fstype, .. } if fstype == "tmpfs") {
            return Err(Error::Other(format!("config.json: mounts[{at}].options: tmpcopyup is for tmpfs only")));
        }
        let file = matches!(&kind, MountKind::Detached(_)) && !bundle.dir.join(&mount.source).is_dir();
        mounts.push(Mount {
            attrs: options.set,
            clear: options.clear,
            tree_attrs: options.tree_set,
            tree_clear: options.tree_clear,
            propagation: options.propagation,
            file,
            copy_up: options.copy_up,
            ..Mount::new(kind, target)
        });
    }
    Ok(mounts)
}

fn open(at: usize, source: &Path, recursive: bool) -> Result<OwnedFd> {
    sys::mount::clone_tree(rustix::fs::CWD, source, recursive)
        .doing(|| format!("open config.json: mounts[{at}].source ({:?})", source.display()))
}

fn path_text(at: usize, source: &Path) -> Result<String> {
    source.to_str().map(str::to_owned).ok_or(Errno::ILSEQ).doing(|| format!("name config.json: mounts[{at}].source"))
}

/// The user namespace that maps a mount's ids: its own mappings, or the container's.
fn namespace(bundle: &Bundle, at: usize, in_user_namespace: bool) -> Result<OwnedFd> {
    let spec = &bundle.spec;
    let mount = &spec.mounts[at];
    let linux = spec.linux.as_ref();
    let maps = if !mount.uid_mappings.is_empty() {
        Maps { uids: &mount.uid_mappings, gids: &mount.gid_mappings }
    } else if let Some(linux) = linux.filter(|linux| in_user_namespace && !linux.uid_mappings.is_empty()) {
        Maps { uids: &linux.uid_mappings, gids: &linux.gid_mappings }
    } else {
        return Err(Error::Other(format!(
            "config.json: mounts[{at}]: idmap needs uidMappings and gidMappings, here or of the container's user namespace"
        )));
    };
    maps.namespace()
}
