//! From a container's record to a [`LaunchPlan`]: every name becomes a number, every path an open
//! descriptor, so that whoever executes the plan decides nothing. Synchronous; called by start and
//! exec on the blocking pool.

pub(crate) mod capabilities;
mod default_mounts;
pub(crate) mod devices;
mod environment;
mod etc_files;
mod exec;
mod limits;
pub(crate) mod link_environment;
pub(crate) mod log;
pub(crate) mod mount_sources;
mod namespaces;
mod seccomp_filter;
mod user;

use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cgroup::Cgroup;
pub(crate) use exec::{check_user, exec_plan};
use launch::{CgroupHandle, FdIndex, IoMode, LaunchPlan, Process, RootFs, Sysctl, Terminal};
pub(crate) use limits::cgroup_resources;
use network::Endpoint;
use rustix::fs::{Mode, OFlags};
pub(crate) use seccomp_filter::Filters;
use sys::path::Root;
use user::User;

use crate::container::record::Record;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::network::legacy_links;

/// What start has prepared.
pub(crate) struct Prepared<'a> {
    pub record: &'a Record,
    /// The container's root, a detached mount.
    pub rootfs: OwnedFd,
    /// The namespace and address the default bridge gave.
    pub slot: Option<(OwnedFd, Vec<Endpoint>)>,
    pub cgroup: &'a Cgroup,
    pub device_nodes: Vec<launch::DeviceNode>,
    /// Sources of the user's mounts.
    pub sources: mount_sources::Sources,
}

/// A plan with the descriptors it refers to, in order.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub plan: LaunchPlan,
    pub fds: Vec<OwnedFd>,
}

/// Descriptors that travel with a plan.
#[derive(Debug, Default)]
pub(crate) struct Fds(Vec<OwnedFd>);

impl Fds {
    pub(crate) fn push(&mut self, fd: OwnedFd) -> FdIndex {
        self.0.push(fd);
        // At most a few hundred travel at all; the sender checks.
        FdIndex::try_from(self.0.len() - 1).unwrap_or(FdIndex::MAX)
    }

    pub(crate) fn into_inner(self) -> Vec<OwnedFd> {
        self.0
    }
}

/// Build the plan.
///
/// # Errors
/// In Docker's words where it has them: users, devices, bind sources, other containers.
pub(crate) fn assemble(inner: &Inner, prepared: Prepared<'_>) -> Result<Assembled> {
    let Prepared { record, rootfs, slot, cgroup, device_nodes, sources } = prepared;
    let (config, host) = (&record.config, &record.host_config);
    let mut fds = Fds::default();
    let dir = inner.container_dir(&record.id);

    let root = Root::from_fd(rootfs.try_clone().map_err(|e| Error::io("cannot keep the container's root open", e))?);
    let user = resolve_user(&root, &config.user, host.group_add.as_deref().unwrap_or_default())?;

    let endpoints = slot.as_ref().map(|(_, endpoints)| endpoints.clone());
    let namespaces = namespaces::resolve(inner, record, slot.map(|(netns, _)| netns), &mut fds)?;
    let files = write_etc_files(inner, record, &dir, endpoints.as_deref())?;
    let mounts = mount_sources::mounts(inner, record, &root, &files, sources, &mut fds)?;
    let overridden_dev = record.mounts.iter().any(|m| m.destination == "/dev");

    let process = process(inner, record, &user, &config.env.clone().unwrap_or_default())?;
    let hostname = if host.uts_mode == "host" { String::new() } else { namespaces::hostname(inner, record) };
    let rootfs_index = fds.push(rootfs);
    let oom_fd = cgroup.oom_fd()?.map(|fd| fds.push(fd));
    let plan = LaunchPlan {
        container_id: record.id.clone(),
        run_dir: path_text(&inner.run_dir(record))?,
        namespaces,
        rootfs: RootFs::Detached(rootfs_index),
        mounts,
        devices: if overridden_dev { Vec::new() } else { device_nodes },
        masked_paths: host.masked_paths.clone().unwrap_or_default(),
        readonly_paths: host.readonly_paths.clone().unwrap_or_default(),
        readonly_rootfs: host.readonly_rootfs,
        sysctls: sysctls(record),
        hostname,
        domainname: if host.uts_mode == "host" { String::new() } else { config.domainname.clone() },
        cgroup: cgroup_handle(cgroup, &mut fds)?,
        process,
        io: io_mode(config.tty, config.open_stdin, config.stdin_once, host.console_size),
        log: log::log_config(record, &dir)?,
        init: host.init.unwrap_or(false),
        oom_fd,
        ..LaunchPlan::default()
    };
    Ok(Assembled { plan, fds: fds.into_inner() })
}

/// Terminal or pipes. `size`: rows and columns, zero where unknown.
pub(crate) fn io_mode(tty: bool, stdin: bool, stdin_once: bool, size: [u64; 2]) -> IoMode {
    if tty {
        let clip = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        IoMode::Terminal(Terminal { rows: clip(size[0]), cols: clip(size[1]), stdin, stdin_once })
    } else {
        IoMode::Pipes { stdin, stdin_once }
    }
}

/// Open what a new process needs to join the group.
pub(crate) fn cgroup_handle(cgroup: &Cgroup, fds: &mut Fds) -> Result<CgroupHandle> {
    Ok(CgroupHandle {
        v2_only: false,
        v2_dir: cgroup.dir_fd()?.map(|fd| fds.push(fd)),
        v1_tasks: cgroup.tasks_fds()?.into_iter().map(|fd| fds.push(fd)).collect(),
        v1_mounts: cgroup
            .v1_mounts()
            .into_iter()
            .map(|(path, name)| Ok((path_text(&path)?, name)))
            .collect::<Result<_>>()?,
    })
}

pub(crate) fn path_text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| fail!(Invalid, "the path {} is not UTF-8", path.display()))
}

/// Read the container's own user database and resolve `spec` in it.
pub(crate) fn resolve_user(root: &Root, spec: &str, additional: &[String]) -> Result<User> {
    let plain_root = (spec.is_empty() || spec == "0" || spec == "root") && additional.is_empty();
    let passwd = read_capped(root, "/etc/passwd")?;
    let group = read_capped(root, "/etc/group")?;
    if plain_root && passwd.is_empty() {
        return user::resolve("0", additional, b"root:x:0:0::/root:\n", &group).map(|mut u| {
            u.home = "/".to_owned();
            u
        });
    }
    user::resolve(spec, additional, &passwd, &group)
}

/// A regular file inside the root, at most [`user::MAX_FILE`] bytes; a missing one is empty.
fn read_capped(root: &Root, path: &str) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match root.open_at(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(Error::io(format!("cannot read the container's {path}"), e)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io(format!("cannot read the container's {path}"), e))?;
    if stat.st_mode & 0o170_000 != 0o100_000 {
        return Err(fail!(Internal, "the container's {path} is not a regular file"));
    }
    let mut text = Vec::new();
    std::fs::File::from(fd)
        .take(user::MAX_FILE + 1)
        .read_to_end(&mut text)
        .map_err(|e| Error::io(format!("cannot read the container's {path}"), e))?;
    if text.len() as u64 > user::MAX_FILE {
        return Err(fail!(Internal, "the container's {path} is larger than {} bytes", user::MAX_FILE));
    }
    Ok(text)
}

/// The user's process.
fn process(inner: &Inner, record: &Record, user: &User, env: &[String]) -> Result<Process> {
    let (config, host) = (&record.config, &record.host_config);
    let hostname = namespaces::hostname(inner, record);
    let env = environment::environment(&hostname, config.tty, legacy_links::variables(inner, record), env);
    let caps = bounding(inner, record)?;
    let options = host.security_opt.as_deref().unwrap_or_default();
    Ok(Process {
        args: record.command_line().into_iter().map(String::into_bytes).collect(),
        env: environment::with_home(env, &user.home),
        cwd: if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() },
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
        bounding: caps,
        permitted: caps,
        effective: caps,
        no_new_privileges: no_new_privileges(options, inner.config.no_new_privileges),
        seccomp: inner.filters.resolve(options, host.privileged, caps)?,
        rlimits: limits::rlimits(host, &inner.config.default_ulimits),
        oom_score_adj: Some(i32::try_from(host.oom_score_adj).unwrap_or(0)),
        umask: 0o022,
        ..Process::default()
    })
}

/// The capabilities asked for, as far as we hold them.
pub(crate) fn bounding(inner: &Inner, record: &Record) -> Result<u64> {
    let host = &record.host_config;
    let list = |l: &Option<docker_types::StrSlice>| l.as_ref().map(|s| s.0.clone()).unwrap_or_default();
    let wanted = capabilities::resolve(&list(&host.cap_add), &list(&host.cap_drop), host.privileged)?;
    let missing = wanted & !inner.caps_held;
    if missing != 0 && !host.privileged {
        tracing::warn!(
            container = record.id,
            missing = format!("{missing:#x}"),
            "capabilities asked for are not ours to give"
        );
    }
    Ok(wanted & inner.caps_held)
}

fn no_new_privileges(options: &[String], default: bool) -> bool {
    options
        .iter()
        .rev()
        .find_map(|option| {
            let rest = option.strip_prefix("no-new-privileges")?;
            match rest.trim_start_matches(['=', ':']) {
                "false" | "0" => Some(false),
                _ => Some(true),
            }
        })
        .unwrap_or(default)
}

/// Engine defaults, then what the user set.
fn sysctls(record: &Record) -> Vec<Sysctl> {
    let host = &record.host_config;
    let mut list = Vec::new();
    if host.network_mode != "host" && !host.network_mode.starts_with("container:") {
        for (key, value) in
            [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
        {
            if !host.sysctls.contains_key(key) {
                list.push(Sysctl { key: key.into(), value: value.into(), optional: true });
            }
        }
    }
    list.extend(host.sysctls.iter().map(|(key, value)| Sysctl {
        key: key.clone(),
        value: value.clone(),
        optional: false,
    }));
    list
}

/// Files of the container's directory to bind, or those of the container whose network is shared.
pub(crate) struct EtcFiles {
    /// Source on the host and target in the container.
    pub binds: Vec<(std::path::PathBuf, &'static str)>,
}

const ETC_FILES: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname"), ("hosts", "/etc/hosts")];

fn write_etc_files(inner: &Inner, record: &Record, dir: &Path, endpoints: Option<&[Endpoint]>) -> Result<EtcFiles> {
    let (config, host) = (&record.config, &record.host_config);
    if let Some(donor) = host.network_mode.strip_prefix("container:") {
        let dir = inner.container_dir(inner.containers.get(donor)?.id());
        return Ok(EtcFiles { binds: ETC_FILES.iter().map(|(name, target)| (dir.join(name), *target)).collect() });
    }
    let host_network = host.network_mode == "host";
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();

    let pick = |own: &'_ Option<Vec<String>>, default: &[String]| match own {
        Some(list) if !list.is_empty() => list.clone(),
        _ => default.to_vec(),
    };
    let servers = pick(&host.dns, &inner.config.dns);
    let search = pick(&host.dns_search, &inner.config.dns_search);
    let options = pick(&host.dns_options, &inner.config.dns_options);
    let choice = etc_files::DnsChoice { servers: &servers, search: &search, options: &options };
    let resolv = match endpoints {
        Some(_) => etc_files::own_resolver(&read("/etc/resolv.conf"), &choice),
        None => {
            // systemd-resolved's own file names the servers behind its loopback stub.
            let mut resolv = read("/etc/resolv.conf");
            if !host_network && resolv.contains("127.0.0.53") {
                let behind = read("/run/systemd/resolve/resolv.conf");
                if !behind.is_empty() {
                    resolv = behind;
                }
            }
            etc_files::resolv_conf(&resolv, &choice, host_network)
        }
    };

    let endpoints = endpoints.unwrap_or_default();
    let gateway =
        endpoints.iter().find_map(|endpoint| endpoint.gateway4.map(IpAddr::V4).or(endpoint.gateway6.map(IpAddr::V6)));
    let gateway = gateway.map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string());
    let extra: Vec<(String, String)> = host
        .extra_hosts
        .iter()
        .flatten()
        .filter_map(|entry| entry.split_once(':').or_else(|| entry.split_once('=')))
        .map(|(name, address)| {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            let address = if address == "host-gateway" { gateway.as_str() } else { address };
            (name.to_owned(), address.to_owned())
        })
        .chain(legacy_links::lines(inner, record))
        .collect();
    let mut hosts = if host_network {
        read("/etc/hosts")
    } else {
        let own: Vec<IpAddr> = endpoints.iter().flat_map(Endpoint::addresses).collect();
        etc_files::hosts(&own, &config.hostname, &config.domainname, &extra)
    };
    if host_network {
        if !hosts.is_empty() && !hosts.ends_with('\n') {
            hosts.push('\n');
        }
        for (name, address) in &extra {
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
    }
    let hostname = format!("{}\n", config.hostname);
    for (name, text) in [("resolv.conf", resolv), ("hosts", hosts), ("hostname", hostname)] {
        let path = dir.join(name);
        write_file(&path, text.as_bytes()).map_err(|e| Error::io(format!("cannot write {}", path.display()), e))?;
    }
    Ok(EtcFiles { binds: ETC_FILES.iter().map(|(name, target)| (dir.join(name), *target)).collect() })
}

/// Replace content, mode 0644. The container has the file bound and may have changed it: written in
/// place, as a running sharer of the network must see it.
fn write_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)?;
    std::io::Write::write_all(&mut file, content)
}

/// The kernel's descriptors of the plan, borrowed for sending.
pub(crate) fn borrow(fds: &[OwnedFd]) -> Vec<std::os::fd::BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}
