//! What this runtime can do, and a configuration to begin with: features, spec.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use oci::features::{self, Features};
use oci::{CAPABILITIES, MemoryPolicyFlag, MemoryPolicyMode, NamespaceKind};

use super::inspect::{print, to_json};
use crate::bundle;
use crate::context::Context;
use crate::error::{Doing, Error, Result};
use crate::flags::{Flag, Given, option, switch};
use crate::plan::Options;

pub(crate) const SPEC: &[Flag] = &[
    option("bundle", Some('b'), "DIR", "directory to write config.json to (default: the working directory)"),
    switch("rootless", None, "a configuration for a user without privileges"),
];

pub(crate) fn features(_context: &Context, _given: &Given) -> Result<u8> {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let document = Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: oci::VERSION.to_owned(),
        hooks: words(&["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]),
        mount_options: Options::words(),
        linux: Some(features::Linux {
            namespaces: NamespaceKind::ALL.iter().map(|kind| kind.name().to_owned()).collect(),
            capabilities: words(CAPABILITIES),
            cgroup: Some(features::Cgroup {
                v1: Some(true),
                v2: Some(true),
                systemd: Some(true),
                systemd_user: Some(true),
                rdma: Some(true),
            }),
            seccomp: Some(features::Seccomp {
                enabled: Some(seccomp::Arch::native().is_some()),
                actions: words(&seccomp::known::ACTIONS),
                operators: words(&seccomp::known::OPERATORS),
                archs: words(&seccomp::known::architectures()),
                known_flags: words(&seccomp::known::FLAGS),
                supported_flags: words(&seccomp::known::FLAGS),
            }),
            apparmor: Some(true.into()),
            selinux: Some(true.into()),
            intel_rdt: Some(features::IntelRdt { enabled: Some(true), schemata: Some(true), monitoring: Some(true) }),
            mount_extensions: Some(features::MountExtensions { idmap: Some(true.into()) }),
            net_devices: Some(true.into()),
            memory_policy: Some(features::MemoryPolicy {
                modes: MemoryPolicyMode::ALL.iter().map(|mode| mode.name().to_owned()).collect(),
                flags: MemoryPolicyFlag::ALL.iter().map(|flag| flag.name().to_owned()).collect(),
            }),
        }),
        annotations: [("org.opencontainers.runc.checkpoint.enabled".to_owned(), "true".to_owned())].into(),
        potentially_unsafe_config_annotations: words(&["bundle", "org.systemd.property."]),
    };
    print(&format!("{}\n", to_json(&document)?))?;
    Ok(0)
}

pub(crate) fn spec(_context: &Context, given: &Given) -> Result<u8> {
    bundle::enter(given.value("bundle"))?;
    let document = if given.has("rootless") {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        oci::rootless_spec(uid, gid)
    } else {
        oci::default_spec()
    };
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(&document, &mut serializer)
        .map_err(|error| Error::Other(format!("cannot write JSON: {error}")))?;
    text.push(b'\n');
    // Nobody's work is overwritten.
    std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open("config.json")
        .and_then(|mut file| file.write_all(&text))
        .doing(|| "write config.json; remove the one that is there first".to_owned())?;
    Ok(0)
}
