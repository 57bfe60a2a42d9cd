//! Networks on a host that firewalld guards: a real one, with a bus of its own, in the test's network namespace.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// Ends with this.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Guarded {
    dir: tempfile::TempDir,
    address: String,
    /// Where firewalld is unpacked.
    root: PathBuf,
    firewalld: Option<Service>,
    _bus: Service,
}

impl Guarded {
    /// `None` where there is no firewalld.
    fn start() -> Option<Self> {
        let Some(root) = std::env::var_os("DHOW_TEST_FIREWALLD").map(PathBuf::from) else {
            eprintln!("skipped: no firewalld; `cargo xtask test` brings one");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("bus.conf");
        let text = format!(
            r#"<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
            <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/>
            <allow receive_sender="*"/></policy></busconfig>"#,
            dir.path().join("bus").display()
        );
        std::fs::write(&config, text).unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        // Modules are the machine's, not the test's.
        std::fs::write(dir.path().join("config/firewalld.conf"), "CleanupModulesOnExit=no\n").unwrap();
        let mut bus = Command::new("dbus-daemon");
        bus.arg("--config-file").arg(config).args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"]);
        let mut bus = Service(bus.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut address = String::new();
        BufReader::new(bus.0.stdout.as_mut().unwrap()).read_line(&mut address).unwrap();
        let mut guarded = Self { dir, address: address.trim().to_owned(), root, firewalld: None, _bus: bus };
        guarded.start_firewalld();
        Some(guarded)
    }

    fn start_firewalld(&mut self) {
        // The old one has gone before the new one may have its name.
        self.firewalld = None;
        let mut command = self.program("usr/sbin/firewalld");
        command.arg("--default-config").arg(self.root.join("usr/lib/firewalld"));
        command.args(["--nofork", "--nopid", "--log-target", "file", "--log-file"]).arg(self.dir.path().join("log"));
        command.arg("--system-config").arg(self.dir.path().join("config"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.firewalld = Some(Service(command.spawn().unwrap()));
        let running = || self.ask(&["--state"]).is_ok_and(|state| state.trim() == "running");
        assert!(soon(running), "firewalld: {}", self.log());
    }

    /// A program of firewalld's. They are in Python, and use modules of the machine's own.
    fn program(&self, path: &str) -> Command {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(self.root.join(path)).env("PYTHONPATH", self.root.join("usr/lib/python3/dist-packages"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn ask(&self, args: &[&str]) -> Result<String, String> {
        let output = self.program("usr/bin/firewall-cmd").args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn interfaces(&self) -> Vec<String> {
        let zones = self.ask(&["--get-active-zones"]).unwrap();
        let ours =
            zones.lines().skip_while(|line| !line.starts_with("dhow")).skip(1).take_while(|l| l.starts_with(' '));
        let mut names: Vec<String> = ours
            .filter_map(|l| l.trim().strip_prefix("interfaces: "))
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }
}

#[test]
fn firewalld_lets_our_networks_through_and_goes_on_doing_so() {
    on_private_host(|place| {
        let Some(mut guarded) = Guarded::start() else { return };
        let far = outside();
        let listener = sys::netns::within(&far, || TcpListener::bind((OUTSIDE, 7000)).unwrap()).unwrap();
        let goes_out = |from: &Started, patience| match from.inside(|| connect(OUTSIDE, 7000, patience)) {
            Ok(stream) => {
                exchange(stream, &listener);
                true
            }
            Err(_) => false,
        };
        {
            let alone = place.fabric(0);
            let c1 = start(&alone, 1, &[]);
            assert!(!goes_out(&c1, SILENCE), "firewalld is in the way of those who do not tell it");
            alone.release(c1.id, &c1.endpoints).unwrap();
            alone.teardown().unwrap();
        }

        let config = FabricConfig { firewalld: Some(guarded.address.clone()), ..place.config(0) };
        let fabric = Fabric::open(config, Some(default_bridge()), Vec::new(), &[]).unwrap();
        assert_eq!(guarded.interfaces(), ["dhow-t"], "{}", guarded.log());
        let made = fabric.create(spec(2, "second")).unwrap();
        let bridge = format!("br-{}", &made.id.to_string()[..12]);
        assert_eq!(guarded.interfaces(), [bridge.clone(), "dhow-t".to_owned()]);

        let c1 = start(&fabric, 1, &[publish(Protocol::Tcp, None, 8080, 80)]);
        let c2 = try_start(&fabric, 2, &[join(2, "c2")], &[]).unwrap();
        let web = c1.listen(80);
        let answers = || match connect_from(&far, HOST_OUTSIDE, 8080, SILENCE) {
            Ok(stream) => {
                exchange(stream, &web);
                true
            }
            Err(_) => false,
        };
        let works = |guarded: &Guarded, when: &str| {
            assert!(goes_out(&c1, PATIENCE) && goes_out(&c2, PATIENCE), "{when}: {}", guarded.log());
            assert!(answers(), "{when}");
            assert!(connect_from(&far, c1.ip(), 80, SILENCE).is_err(), "{when}: what is not published is closed");
        };
        works(&guarded, "at first");
        guarded.ask(&["--reload"]).unwrap();
        works(&guarded, "after a reload");
        guarded.ask(&["--complete-reload"]).unwrap();
        works(&guarded, "after a complete reload");

        guarded.start_firewalld();
        works(&guarded, "after a new start");
        let expected = [bridge, "dhow-t".to_owned()];
        assert!(soon(|| guarded.interfaces() == expected), "{:?} {}", guarded.interfaces(), guarded.log());

        for started in [&c1, &c2] {
            fabric.release(started.id, &started.endpoints).unwrap();
        }
        fabric.remove(&made.id).unwrap();
        assert_eq!(guarded.interfaces(), ["dhow-t"]);
        fabric.teardown().unwrap();
        assert_eq!(guarded.ask(&["--permanent", "--zone=dhow", "--list-interfaces"]).unwrap().trim(), "");
    });
}

/// Somebody's own decision, and a firewalld that is not there, keep nobody from having networks.
#[test]
fn a_bridge_in_another_zone_of_firewalld_is_left_there() {
    on_private_host(|place| {
        let Some(mut guarded) = Guarded::start() else { return };
        guarded.ask(&["--permanent", "--zone=trusted", "--add-interface=dhow-t"]).unwrap();
        let config = FabricConfig { firewalld: Some(guarded.address.clone()), ..place.config(0) };
        let fabric = Fabric::open(config, Some(default_bridge()), Vec::new(), &[]).unwrap();
        assert_eq!(guarded.ask(&["--get-zone-of-interface=dhow-t"]).unwrap().trim(), "trusted");
        guarded.firewalld = None;
        fabric.create(spec(2, "second")).unwrap();
        fabric.remove(&id(2)).unwrap();
        fabric.teardown().unwrap();
    });
}
