//! The systemd driver. Against a real dbus-daemon with a stand-in for systemd behind it, which writes down what
//! arrives; and against systemd itself where it runs the host.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cgroup::systemd::{self, BusError, Error, Systemd, Unit, Value};
use cgroup::{Cgroup, Hierarchy, Mode, Resources};
use tempfile::TempDir;

/// Debian's own: the modules are packages of the distribution's.
const PYTHON: &str = "/usr/bin/python3";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bus of the test's own, and perhaps the stand-in on it.
struct Stage {
    dir: TempDir,
    _processes: Vec<Killed>,
}

impl Stage {
    fn bus(auth: &str) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "<busconfig><type>session</type><listen>unix:path={}/bus</listen><auth>{auth}</auth>\
             <policy context='default'><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/><allow user='*'/></policy></busconfig>",
            dir.path().display()
        );
        fs::write(dir.path().join("bus.conf"), config).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", dir.path().join("bus.conf").display()))
            .args(["--nofork", "--print-address", "--nosyslog"])
            .stdout(Stdio::piped())
            // It may not raise its limit of descriptors here, and says so.
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon (package dbus-daemon)");
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("unix:"), "{line}");
        Stage { dir, _processes: vec![Killed(daemon)] }
    }

    fn with_systemd() -> Option<Stage> {
        if !Path::new(PYTHON).exists() {
            skip("the stand-in for systemd needs Debian's python3");
            return None;
        }
        let mut stage = Stage::bus("EXTERNAL");
        let mut fake = Command::new(PYTHON)
            // From within this program: it also runs in machines that have no sources.
            .args(["-c", include_str!("fake_systemd.py")])
            .arg(stage.address())
            .arg(stage.dir.path().join("log"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(fake.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready", "packages python3-dbus and python3-gi are needed");
        stage._processes.push(Killed(fake));
        Some(stage)
    }

    fn address(&self) -> String {
        format!("unix:path={}/bus", self.dir.path().display())
    }

    fn systemd(&self, user: bool) -> Systemd {
        Systemd::connect(&self.address(), user).unwrap()
    }

    /// The calls that arrived, a line each.
    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.dir.path().join("log")).unwrap().lines().map(str::to_owned).collect()
    }

    fn members(&self) -> Vec<String> {
        self.calls().iter().map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
    }

    /// A v2 hierarchy of plain files with the unit's group in it.
    fn v2(&self, unit: &Unit, manager: &str) -> (Hierarchy, PathBuf) {
        let root = self.dir.path().join("cgroup");
        let mountinfo = format!("26 25 0:24 / {} rw - cgroup2 cgroup2 rw\n", root.display());
        let hierarchy = Hierarchy::parse(&mountinfo, "0::/\n").unwrap();
        let group = unit.group(&hierarchy, manager).unwrap();
        let dir = group.paths()[""].clone();
        fs::create_dir_all(&dir).unwrap();
        for at in dir.ancestors().take_while(|at| at.starts_with(&root)) {
            fs::write(at.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        }
        for (name, text) in [
            ("cgroup.freeze", "0\n"),
            ("cpu.max", "max 100000\n"),
            ("cpu.weight", "100\n"),
            ("memory.max", "max\n"),
            ("memory.swap.max", "max\n"),
            ("memory.current", "4096\n"),
            ("memory.oom.group", "0\n"),
            ("pids.max", "max\n"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        (hierarchy, dir)
    }
}

fn limits() -> Resources {
    Resources {
        memory: Some(64 << 20),
        memory_swap: Some(64 << 20),
        cpu_shares: Some(1024),
        cpu_quota: Some(50_000),
        pids_limit: Some(20),
        ..Resources::default()
    }
}

#[test]
fn a_scope_with_its_limits() {
    let Some(stage) = Stage::with_systemd() else { return };
    let unit = Unit::parse("machine-x.slice:dhow:one", "one", false).unwrap();
    let (hierarchy, dir) = stage.v2(&unit, "");
    let mut systemd = stage.systemd(false);
    let group = unit.group(&hierarchy, &systemd.control_group().unwrap()).unwrap();
    assert_eq!(group.path(), "/machine.slice/machine-x.slice/dhow-one.scope");
    let mut resources = limits();
    resources.unified = vec![("memory.oom.group".into(), "1".into())];
    let more = [("CollectMode".to_owned(), Value::Str("inactive-or-failed".into()))];
    let said = systemd.start(&unit, &group, &[4242], &resources, &more).unwrap();
    assert!(said.is_empty(), "{said:?}");
    let calls = stage.calls();
    assert_eq!(stage.members(), ["Get", "StartTransientUnit"]);
    let wanted = concat!(
        r#"["StartTransientUnit", ["String", "dhow-one.scope"], ["String", "replace"], ["Array:(sv)", ["#,
        r#"[["String", "Description"], ["String", "OCI container one"]], "#,
        r#"[["String", "Slice"], ["String", "machine-x.slice"]], "#,
        r#"[["String", "Delegate"], ["Boolean", true]], "#,
        r#"[["String", "PIDs"], ["Array:u", [4242]]], "#,
        r#"[["String", "MemoryAccounting"], ["Boolean", true]], "#,
        r#"[["String", "CPUAccounting"], ["Boolean", true]], "#,
        r#"[["String", "IOAccounting"], ["Boolean", true]], "#,
        r#"[["String", "TasksAccounting"], ["Boolean", true]], "#,
        r#"[["String", "DefaultDependencies"], ["Boolean", false]], "#,
        r#"[["String", "OOMPolicy"], ["String", "kill"]], "#,
        r#"[["String", "MemoryMax"], ["UInt64", 67108864]], "#,
        r#"[["String", "MemorySwapMax"], ["UInt64", 0]], "#,
        r#"[["String", "CPUWeight"], ["UInt64", 100]], "#,
        r#"[["String", "CPUQuotaPerSecUSec"], ["UInt64", 500000]], "#,
        r#"[["String", "TasksMax"], ["UInt64", 20]], "#,
        r#"[["String", "CollectMode"], ["String", "inactive-or-failed"]]]], "#,
        r#"["Array:(sa(sv))", []]]"#,
    );
    assert_eq!(calls[1], wanted);
    // What systemd was told is in the group as well, and what it was not.
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert!(read("memory.max").starts_with("67108864"));
    assert!(read("cpu.max").starts_with("50000 100000"));
    assert!(read("memory.oom.group").starts_with('1'));

    let change = Resources { memory: Some(-1), cpu_period: Some(20_000), ..Resources::default() };
    systemd.set(&unit, &group, &change).unwrap();
    let wanted = concat!(
        r#"["SetUnitProperties", ["String", "dhow-one.scope"], ["Boolean", true], ["Array:(sv)", ["#,
        r#"[["String", "MemoryMax"], ["UInt64", 18446744073709551615]], "#,
        r#"[["String", "MemorySwapMax"], ["UInt64", 18446744073709551615]], "#,
        r#"[["String", "CPUQuotaPeriodUSec"], ["UInt64", 20000]], "#,
        r#"[["String", "CPUQuotaPerSecUSec"], ["UInt64", 18446744073709551615]]]]]"#,
    );
    assert_eq!(stage.calls()[2], wanted);
    let low = Resources { memory: Some(1000), memory_check_before_update: true, ..Resources::default() };
    let refused = systemd.set(&unit, &group, &low).unwrap_err();
    assert!(refused.to_string().contains("4096"), "{refused}");
    assert_eq!(stage.calls().len(), 3, "systemd was not told of what was refused");

    systemd.attach(&unit, "init", &[7, 8]).unwrap();
    systemd.stop(&unit).unwrap();
    let calls = stage.calls();
    assert_eq!(
        calls[3],
        r#"["AttachProcessesToUnit", ["String", "dhow-one.scope"], ["String", "/init"], ["Array:u", [7, 8]]]"#
    );
    assert_eq!(
        calls[4..],
        [
            r#"["StopUnit", ["String", "dhow-one.scope"], ["String", "replace"]]"#,
            r#"["ResetFailedUnit", ["String", "dhow-one.scope"]]"#
        ]
    );
}

#[test]
fn a_users_manager() {
    let Some(stage) = Stage::with_systemd() else { return };
    let unit = Unit::parse("", "two-early", true).unwrap();
    let mut systemd = stage.systemd(true);
    assert!(systemd.is_user());
    let manager = systemd.control_group().unwrap();
    assert_eq!(manager, "/user.slice/user-7.slice/user@7.service");
    let (hierarchy, _) = stage.v2(&unit, &manager);
    let group = unit.group(&hierarchy, &manager).unwrap();
    assert_eq!(group.path(), "/user.slice/user-7.slice/user@7.service/user.slice/dhow-two-early.scope");
    systemd.start(&unit, &group, &[1], &Resources::default(), &[]).unwrap();
    assert_eq!(systemd.version().unwrap(), 252);
    assert_eq!(systemd.version().unwrap(), 252);
    assert_eq!(stage.members(), ["Get", "StartTransientUnit", "Get"], "the version is asked for once");
    let v1 = Hierarchy::parse("33 30 0:29 / /x/memory rw - cgroup cgroup rw,memory\n", "3:memory:/\n").unwrap();
    let group = unit.group(&v1, "").unwrap();
    let refused = systemd.start(&unit, &group, &[1], &Resources::default(), &[]).unwrap_err();
    assert!(refused.to_string().contains("cgroup v2"), "{refused}");
}

#[test]
fn what_goes_wrong_is_named_and_cleared() {
    let Some(stage) = Stage::with_systemd() else { return };
    let mut systemd = stage.systemd(false);
    let unit = |name: &str| Unit::parse(&format!("a.slice:d:{name}"), name, false).unwrap();

    let fails = unit("x-fails");
    let (hierarchy, dir) = stage.v2(&fails, "");
    let group = fails.group(&hierarchy, "").unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let error = systemd.start(&fails, &group, &[1], &Resources::default(), &[]).unwrap_err();
    assert!(matches!(&error, Error::Job { result, .. } if result == "failed"), "{error}");
    assert!(error.to_string().contains("d-x-fails.scope"), "{error}");
    assert_eq!(stage.members(), ["StartTransientUnit", "StopUnit", "ResetFailedUnit"]);

    let exists = unit("x-exists");
    let (_, _) = stage.v2(&exists, "");
    let group = exists.group(&hierarchy, "").unwrap();
    systemd.start(&exists, &group, &[1], &Resources::default(), &[]).unwrap();
    assert_eq!(stage.members()[3..], ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);

    systemd.stop(&unit("x-gone")).unwrap();
    // A limit that cannot be had stops the unit again.
    let half = unit("half");
    let (_, dir) = stage.v2(&half, "");
    fs::remove_file(dir.join("pids.max")).unwrap();
    let group = half.group(&hierarchy, "").unwrap();
    let pids = Resources { pids_limit: Some(5), ..Resources::default() };
    let error = systemd.start(&half, &group, &[1], &pids, &[]).unwrap_err();
    assert!(error.to_string().contains("'pids'"), "{error}");
    assert!(stage.calls().iter().any(|c| c.starts_with(r#"["StopUnit", ["String", "d-half.scope"]"#)));
    // A group in use is refused before systemd hears of it.
    let used = unit("used");
    let (_, dir) = stage.v2(&used, "");
    fs::write(dir.join("cgroup.procs"), "77\n").unwrap();
    let before = stage.calls().len();
    let group = used.group(&hierarchy, "").unwrap();
    let error = systemd.start(&used, &group, &[1], &Resources::default(), &[]).unwrap_err();
    assert!(error.to_string().contains("cgroup is not empty"), "{error}");
    assert_eq!(stage.calls().len(), before);
}

#[test]
fn buses_that_do_not_serve() {
    let stage = Stage::bus("EXTERNAL");
    let mut nobody = stage.systemd(false);
    let error = nobody.version().unwrap_err();
    assert!(
        matches!(&error, Error::Bus { source: BusError::Refused { name, .. }, .. } if name.contains("ServiceUnknown")),
        "{error}"
    );
    let stranger = Stage::bus("DBUS_COOKIE_SHA1");
    let error = stranger.systemd(false).version().unwrap_err();
    assert!(matches!(&error, Error::Bus { source: BusError::Identity { .. }, .. }), "{error}");
    let error = Systemd::connect("unix:path=/nonexistent/bus;tcp:host=x", false).err().unwrap();
    assert!(error.to_string().contains("/nonexistent/bus"), "{error}");
}

/// A sleeping process, and the v1 or v2 groups that its unit may leave.
struct Sleeper(Child, Option<Cgroup>);

impl Sleeper {
    fn new(group: Option<Cgroup>) -> Sleeper {
        Sleeper(Command::new("sleep").arg("1000").spawn().unwrap(), group)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn groups(&self) -> String {
        fs::read_to_string(format!("/proc/{}/cgroup", self.pid())).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if let Some(group) = &self.1 {
            let _ = group.remove();
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_ne_bytes(bytes)
}

fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Takes the slice's directories away again.
struct Slice<'a>(&'a Hierarchy, String);

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        cgroup::remove_empty_parent(self.0, &self.1);
    }
}

#[test]
fn hierarchies_that_systemd_does_not_use_are_filled() {
    let hierarchy = Hierarchy::detect().unwrap();
    let root = rustix::process::geteuid().is_root();
    if !root || hierarchy.mode() == Mode::V2 || !hierarchy.support().memory || systemd::is_running() {
        return skip("needs root, writable v1 controllers and no real systemd");
    }
    let Some(stage) = Stage::with_systemd() else { return };
    let slice = format!("dhowtest{:016x}.slice", random());
    let _slice = Slice(&hierarchy, format!("/{slice}"));
    let unit = Unit::parse(&format!("{slice}:dhow:real"), "real", false).unwrap();
    let group = unit.group(&hierarchy, "").unwrap();
    let sleeper = Sleeper::new(Some(group.clone()));
    let mut systemd = stage.systemd(false);
    systemd.start(&unit, &group, &[sleeper.pid()], &limits(), &[]).unwrap();
    for line in sleeper.groups().lines() {
        assert!(line.ends_with(&format!("/{slice}/dhow-real.scope")), "{line}");
    }
    let limit = group.paths()["memory"].join("memory.limit_in_bytes");
    assert_eq!(fs::read_to_string(limit).unwrap().trim(), (64u64 << 20).to_string());
    let call = stage.calls().into_iter().find(|c| c.starts_with(r#"["StartTransientUnit""#)).unwrap();
    for there in [
        r#""MemoryLimit"], ["UInt64", 67108864]"#,
        r#""CPUShares"], ["UInt64", 1024]"#,
        r#""BlockIOAccounting"], ["Boolean", true]"#,
    ] {
        assert!(call.contains(there), "{there}: {call}");
    }
    let again = systemd.start(&unit, &group, &[sleeper.pid()], &limits(), &[]).unwrap_err();
    assert!(again.to_string().contains("1 process(es)"), "{again}");
    systemd.stop(&unit).unwrap();
    group.kill().unwrap();
    drop(sleeper);
    assert!(!group.exists());
}

/// With systemd itself: as root with the system's manager, as another user with that user's.
#[test]
fn a_real_systemd() {
    if !systemd::is_running() {
        assert_ne!(std::env::var("DHOW_TEST_VM").as_deref(), Ok("systemd"), "this machine is there to have it");
        return skip("systemd does not run this host");
    }
    let user = !rustix::process::geteuid().is_root();
    let opened = if user { Systemd::user() } else { Systemd::system() };
    let mut systemd = match opened {
        Err(Error::NoUserBus) => return skip("the user has no session bus"),
        other => other.unwrap(),
    };
    let hierarchy = Hierarchy::detect().unwrap();
    if user && hierarchy.mode() != Mode::V2 {
        return skip("a user's systemd needs cgroup v2");
    }
    assert!(systemd.version().unwrap() > 200);
    let unit = Unit::parse(&format!(":dhowtest:{:016x}", random()), "test", user).unwrap();
    let manager = systemd.control_group().unwrap();
    let group = unit.group(&hierarchy, &manager).unwrap();
    let mut sleeper = Sleeper::new(Some(group.clone()));
    let mut resources = Resources { memory: Some(64 << 20), pids_limit: Some(20), ..Resources::default() };
    if !user {
        resources.cpu_quota = Some(50_000);
        resources.devices = Some(cgroup::DeviceRule::runtime_defaults());
    }
    let more = [systemd::property_of_annotation("TimeoutStopSec", "5").unwrap()];
    systemd.start(&unit, &group, &[sleeper.pid()], &resources, &more).unwrap();
    assert!(
        sleeper.groups().lines().any(|l| l.ends_with(group.path())),
        "{} not in {}",
        sleeper.groups(),
        group.path()
    );
    assert_eq!(group.pids().unwrap(), [i32::try_from(sleeper.pid()).unwrap()]);
    let stats = group.full_stats().unwrap();
    assert_eq!(stats.pids.limit, Some(20));
    assert_eq!(stats.memory.unwrap().limit, 64 << 20);
    let taken = systemd.start(&unit, &group, &[sleeper.pid()], &resources, &[]).unwrap_err();
    assert!(taken.to_string().contains("1 process(es)"), "{taken}");
    let change =
        Resources { memory: Some(96 << 20), memory_swap: Some(-1), pids_limit: Some(-1), ..Resources::default() };
    systemd.set(&unit, &group, &change).unwrap();
    let stats = group.full_stats().unwrap();
    assert_eq!((stats.pids.limit, stats.memory.unwrap().limit), (None, 96 << 20));
    let second = Sleeper::new(None);
    systemd.attach(&unit, "", &[second.pid()]).unwrap();
    assert_eq!(group.pids().unwrap().len(), 2);
    systemd.stop(&unit).unwrap();
    assert!(sleeper.0.wait().unwrap().code().is_none(), "stopping the unit kills what is in it");
    drop(second);
    group.remove().unwrap();
    assert!(!group.exists());
    systemd.stop(&unit).unwrap();
}

/// The same as a user who is logged in, or lingers.
#[test]
fn a_real_users_systemd() {
    use std::os::unix::process::CommandExt;
    let buses = fs::read_dir("/run/user").into_iter().flatten().flatten().filter(|d| d.path().join("bus").exists());
    let user = buses.filter_map(|d| d.file_name().to_str()?.parse::<u32>().ok()).find(|uid| *uid != 0);
    let (Some(user), true) = (user, rustix::process::geteuid().is_root()) else {
        assert_ne!(std::env::var("DHOW_TEST_VM").as_deref(), Ok("systemd"), "this machine is there to have one");
        return skip("needs root and a user with a bus of its own");
    };
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["a_real_systemd", "--exact", "--nocapture"])
        .env("XDG_RUNTIME_DIR", format!("/run/user/{user}"))
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .current_dir("/")
        .uid(user)
        .gid(user)
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && text.contains("1 passed") && !text.contains("skipped"), "{text}");
}
