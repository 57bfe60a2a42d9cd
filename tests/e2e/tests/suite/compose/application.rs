//! `examples/three-tier` from its first start to its end: what is written stays, instances take turns, the proxy does not
//! reach the database, and a daemon that is killed costs no request.

use std::collections::BTreeSet;

use e2e::http::{Load, request};
use e2e::{Daemon, Project};
use serde_json::Value;

use super::{Engine, engines, free_address, name};
use crate::eventually;

/// The texts of the notes, or None when it does not answer well.
fn notes(address: &str) -> Option<Vec<String>> {
    let (status, body) = request(address, "GET", "/notes", "").ok()?;
    let body: Value = serde_json::from_str(&body).ok()?;
    let texts = body["notes"].as_array()?.iter().filter_map(|note| note["text"].as_str().map(str::to_owned));
    (status == 200).then(|| texts.collect())
}

#[track_caller]
fn write(address: &str, text: &str) {
    let (status, body) = request(address, "POST", "/notes", text).expect("an answer");
    assert_eq!(status, 201, "{body}");
}

/// Which instances answer so many requests.
fn instances(address: &str, requests: usize) -> BTreeSet<String> {
    let answers = (0..requests).filter_map(|_| request(address, "GET", "/", "").ok());
    let bodies = answers.filter_map(|(_, body)| serde_json::from_str::<Value>(&body).ok());
    bodies.filter_map(|body| body["instance"].as_str().map(str::to_owned)).collect()
}

/// Short ids of a service's containers, which are their host names.
fn hostnames(project: &Project, service: &str) -> BTreeSet<String> {
    project.ids(&[service]).iter().map(|id| id[..12].to_owned()).collect()
}

#[test]
fn an_application_of_three_tiers_lives() {
    // The same file on both, whatever else is asked for.
    let both = if engines() == [Engine::Dockerd] { engines() } else { vec![Engine::Dockerd, Engine::Dhowd] };
    for engine in both {
        let Some(daemon) = Daemon::with_network() else { return };
        let address = free_address();
        let project = engine.three_tier(&daemon, &name(), &address);
        eprintln!("on {engine:?}");

        project.up(&[]);
        assert_eq!(notes(&address), Some(vec![]));
        write(&address, "first");
        assert_eq!(notes(&address), Some(vec!["first".to_owned()]));
        assert_eq!(instances(&address, 10), hostnames(&project, "app"));
        the_proxy_does_not_reach_the_database(&project);

        project.run(&["restart"]);
        eventually(60, "the note after a restart", || notes(&address) == Some(vec!["first".to_owned()]));
        write(&address, "second");
        let expected = Some(vec!["first".to_owned(), "second".to_owned()]);

        let data = format!("{}_data", project.name);
        project.run(&["down"]);
        assert_eq!(project.traces(), [("volume", data)], "`down` keeps the volume alone");
        assert!(request(&address, "GET", "/", "").is_err(), "nothing is published any more");
        project.up(&[]);
        assert_eq!(notes(&address), expected);

        let others = project.ids(&["db", "proxy"]);
        project.up(&["--scale", "app=3"]);
        let three = hostnames(&project, "app");
        assert_eq!(three.len(), 3);
        eventually(20, "answers of all three instances", || instances(&address, 40) == three);
        assert_eq!(project.ids(&["db", "proxy"]), others, "scaling touches one service");
        assert_eq!(notes(&address), expected);
        project.up(&["--scale", "app=1"]);
        eventually(20, "answers of the only instance", || instances(&address, 10) == hostnames(&project, "app"));

        project.run(&["down", "--volumes"]);
        assert_eq!(project.traces(), []);
    }
}

#[track_caller]
fn the_proxy_does_not_reach_the_database(project: &Project) {
    let network = format!("{}_back", project.name);
    let db = project.client.inspect(&project.ids(&["db"])[0]);
    let address = db["NetworkSettings"]["Networks"][&network]["IPAddress"].as_str().expect("an address").to_owned();
    let connect = format!("exec 3<>/dev/tcp/{address}/5432");
    for (service, reaches) in [("app", true), ("proxy", false)] {
        let resolves = project.try_run(&["exec", "-T", service, "getent", "hosts", "db"]);
        assert_eq!(resolves.code == 0, reaches, "{service}: {resolves:?}");
        let connects = project.try_run(&["exec", "-T", service, "timeout", "3", "bash", "-c", &connect]);
        assert_eq!(connects.code == 0, reaches, "{service}: {connects:?}");
    }
    // No way out either, of the host's addresses not even its own of the other network.
    let front = project.client.json(&["network", "inspect", &format!("{}_front", project.name)]);
    let gateway = front[0]["IPAM"]["Config"][0]["Gateway"].as_str().expect("a gateway").to_owned();
    let port = project.run(&["port", "proxy", "80"]);
    let port = port.rsplit(':').next().expect("a port");
    let outside = format!("exec 3<>/dev/tcp/{gateway}/{port}");
    let connects = project.try_run(&["exec", "-T", "db", "timeout", "3", "bash", "-c", &outside]);
    assert_ne!(connects.code, 0, "the database reaches {gateway}:{port}");
}

/// Two deaths of the daemon within ten seconds of a thousand requests each.
#[test]
fn a_killed_daemon_costs_no_request() {
    for engine in engines() {
        let Some(mut daemon) = Daemon::with_network() else { return };
        let address = free_address();
        let project = engine.three_tier(&daemon, &name(), &address);
        project.up(&["--scale", "app=2"]);
        let before = project.ids(&[]);

        let load = Load::start(&address, 1000, 10_000);
        for point in [2000, 6000] {
            eventually(120, "the load", || load.sent() >= point);
            // The real dockerd belongs to others.
            if engine == Engine::Dhowd {
                daemon.kill();
                let dead = load.sent();
                eventually(120, "requests without a daemon", || load.sent() >= dead + 1000);
                daemon.launch();
            }
        }
        let tally = load.finish();
        eprintln!("{engine:?}: {} requests in {:?}, {} failed", tally.sent, tally.took, tally.failures.len());
        assert!(tally.failures.is_empty(), "{} of {}: {:#?}", tally.failures.len(), tally.sent, tally.failures);

        assert_eq!(project.ids(&[]), before);
        project.up(&["--scale", "app=2"]);
        assert_eq!(project.ids(&[]), before, "what outlived the daemon is what was asked for");
        write(&address, "after");
        // Names are answered for as before, also for a container that comes now.
        project.up(&["--scale", "app=3"]);
        let three = hostnames(&project, "app");
        eventually(20, "answers of all three instances", || instances(&address, 40) == three);
    }
}
