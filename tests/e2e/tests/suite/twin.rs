//! Answers compared with real dockerd's, field by field: the same work on both, the same questions,
//! and a list of the fields that may differ, each with its reason.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::{Client, Daemon};
use serde_json::Value;

/// Every path of a document with the type (and for equal parts the value) at its end.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if map.is_empty() {
                found.insert(format!("{at}: {{}}"));
            }
            for (key, inner) in map {
                paths(inner, &format!("{at}.{key}"), found);
            }
        }
        Value::Array(list) => {
            if list.is_empty() {
                found.insert(format!("{at}: []"));
            }
            for inner in list {
                paths(inner, &format!("{at}[]"), found);
            }
        }
        other => {
            found.insert(format!("{at}: {other}"));
        }
    }
}

/// Fails with the differing paths, except those that start with an excepted prefix.
#[track_caller]
pub fn same(what: &str, theirs: &Value, ours: &Value, except: &[&str]) {
    let (mut left, mut right) = (BTreeSet::new(), BTreeSet::new());
    paths(theirs, "", &mut left);
    paths(ours, "", &mut right);
    let allowed = |path: &&String| !except.iter().any(|prefix| path.starts_with(prefix));
    let missing: Vec<_> = left.difference(&right).filter(allowed).collect();
    let surplus: Vec<_> = right.difference(&left).filter(allowed).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "{what}\nonly dockerd: {missing:#?}\nonly dhowd: {surplus:#?}");
}

/// Both daemons, with a name that cannot meet another test's.
fn both(daemon: &Daemon) -> ([Client; 2], String) {
    // Tests at work at the same time share the real dockerd.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    ([daemon.twin(), daemon.docker()], format!("dhow-e2e-twin-{}-{number}", std::process::id()))
}

/// Ids, times and paths are each engine's own.
pub const OWN: &[&str] = &[
    ".Id:",
    ".Created:",
    ".Image:",
    ".State.Pid:",
    ".State.StartedAt:",
    ".State.FinishedAt:",
    ".ResolvConfPath:",
    ".HostnamePath:",
    ".HostsPath:",
    ".LogPath:",
    ".Config.Hostname:",
    ".NetworkSettings.SandboxID:",
    ".NetworkSettings.SandboxKey:",
    // An OCI image store on overlay is called `overlayfs`, as in Docker 29; with its private data.
    ".Driver:",
    ".GraphDriver",
    ".Storage",
    // An image store that keeps OCI manifests names the one it used (API 1.48).
    ".ImageManifestDescriptor",
    // Ours caps logs by default, and says so.
    ".HostConfig.LogConfig.Config",
    // Where runc is asked for, ours is the only one.
    ".HostConfig.Runtime:",
    // Addresses come from each engine's own pool.
    ".NetworkSettings.Networks.bridge.NetworkID:",
    ".NetworkSettings.Networks.bridge.EndpointID:",
    ".NetworkSettings.Networks.bridge.Gateway:",
    ".NetworkSettings.Networks.bridge.IPAddress:",
    ".NetworkSettings.Networks.bridge.MacAddress:",
    ".NetworkSettings.Networks.bridge.IPPrefixLen:",
    // Fields dockerd 28.5 still sends and Docker 29 dropped (API 1.52).
    ".NetworkSettings.Bridge",
    ".NetworkSettings.HairpinMode",
    ".NetworkSettings.LinkLocalIPv6",
    ".NetworkSettings.SecondaryIP",
    ".NetworkSettings.EndpointID",
    ".NetworkSettings.Gateway",
    ".NetworkSettings.GlobalIPv6",
    ".NetworkSettings.IPAddress",
    ".NetworkSettings.IPPrefixLen",
    ".NetworkSettings.IPv6Gateway",
    ".NetworkSettings.MacAddress",
];

#[test]
fn inspect_agrees() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let (clients, name) = both(&daemon);
    let creations: &[&[&str]] = &[
        &["busybox", "true"],
        &["-it", "-e", "A=1", "-l", "k=v", "-w", "/tmp", "-u", "0:0", "busybox"],
        &[
            "-v",
            "/usr/share:/mnt/share:ro",
            "--tmpfs",
            "/t:size=1m",
            "--read-only",
            "--network",
            "none",
            "busybox",
            "sleep",
            "1",
        ],
        &[
            "--memory",
            "64m",
            "--cpus",
            "1.5",
            "--pids-limit",
            "9",
            "--ulimit",
            "nofile=10:20",
            "--restart",
            "on-failure:3",
            "busybox",
            "true",
        ],
        &[
            "--cap-add",
            "SYS_TIME",
            "--cap-drop",
            "KILL",
            "--security-opt",
            "no-new-privileges",
            "--init",
            "--add-host",
            "a:1.2.3.4",
            "busybox",
            "true",
        ],
        &[
            "--health-cmd",
            "true",
            "--health-interval",
            "5s",
            "-p",
            "127.0.0.1:45871:80",
            "--expose",
            "90",
            "--entrypoint",
            "sh",
            "busybox",
            "-c",
            "true",
        ],
        &[
            "--privileged",
            "--pid",
            "host",
            "--ipc",
            "host",
            "--uts",
            "host",
            "--shm-size",
            "1m",
            "--stop-signal",
            "INT",
            "--stop-timeout",
            "3",
            "busybox",
            "true",
        ],
    ];
    for creation in creations {
        let mut args = vec!["create", "--name", &name];
        args.extend(*creation);
        let answers: Vec<Value> = clients
            .iter()
            .map(|client| {
                let _ = client.try_run(&["rm", "-f", &name]);
                client.run(&args);
                let answer = client.inspect(&name);
                client.run(&["rm", "-f", &name]);
                answer
            })
            .collect();
        same(&creation.join(" "), &answers[0], &answers[1], OWN);
    }
}

#[test]
fn inspect_of_a_running_and_an_ended_container_agrees() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let (clients, name) = both(&daemon);
    let mut running = Vec::new();
    let mut ended = Vec::new();
    for client in &clients {
        let _ = client.try_run(&["rm", "-f", &name]);
        client.run(&["run", "-d", "--name", &name, "-p", "127.0.0.1:45872:80", "busybox", "sleep", "1000"]);
        running.push(client.inspect(&name));
        client.run(&["kill", &name]);
        client.run(&["wait", &name]);
        ended.push(client.inspect(&name));
        client.run(&["rm", &name]);
    }
    same("running", &running[0], &running[1], OWN);
    same("ended", &ended[0], &ended[1], OWN);
}

#[test]
fn lists_agree() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let (clients, name) = both(&daemon);
    let mut answers = Vec::new();
    for client in &clients {
        let _ = client.try_run(&["rm", "-f", &name]);
        client.run(&[
            "run",
            "-d",
            "--name",
            &name,
            "-p",
            "127.0.0.1:45873:80",
            "-l",
            "a=b",
            "busybox",
            "sleep",
            "1000",
        ]);
        let filter = format!("name={name}");
        let row = client.json(&["ps", "--filter", &filter, "--format", "json"]);
        client.run(&["rm", "-f", &name]);
        answers.push(row);
    }
    // dockerd 28.5 leaves the platform out unless it uses the OCI image store.
    let own = [".Platform", ".ID:", ".CreatedAt:", ".RunningFor:", ".Status:"];
    same("ps", &answers[0], &answers[1], &own);
}

#[test]
fn our_client_prints_what_docker_prints() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    docker.run(&["run", "-d", "--name", "c1", "-l", "a=b", "busybox", "sleep", "1000"]);
    docker.try_run(&["run", "--name", "d1", "busybox", "sh", "-c", "exit 3"]).expect_code(3);
    docker.run(&["volume", "create", "vol"]);
    let questions: &[&[&str]] = &[
        &["ps", "-a", "--format", "{{.ID}}\t{{.Names}}\t{{.Image}}\t{{.Command}}\t{{.Labels}}\t{{.State}}"],
        &["ps", "-aq", "--no-trunc"],
        &[
            "ps",
            "-a",
            "--filter",
            "name=d1",
            "--format",
            "{{.Command}} {{.ID}} {{.Mounts}} {{.Networks}} {{.Ports}} {{.Size}} {{.Status}}",
        ],
        &["images"],
        &["images", "--digests", "--no-trunc"],
        &["inspect", "-f", "{{json .State}}", "c1", "d1"],
        &["inspect", "-f", "{{json .RootFS}} {{.Architecture}} {{.Size}}", "busybox"],
        &["inspect", "-f", "{{.State.Pid}} {{json .Config.Labels}} {{range .Config.Env}}{{.}};{{end}}", "c1"],
        &["volume", "ls"],
        &["volume", "inspect", "vol"],
        &["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"],
        &["history", "--no-trunc", "--format", "{{.ID}} {{.CreatedBy}} {{.Size}}", "busybox"],
        &["top", "c1", "-o", "pid,args"],
        &["diff", "d1"],
        &["port", "c1"],
        &["version", "--format", "{{.Server.Version}} {{.Server.Os}}/{{.Server.Arch}}"],
        &["logs", "d1"],
        &["inspect", "nosuch"],
        &["rm", "nosuch"],
        &["rmi", "nosuch"],
        &["start", "nosuch"],
        &["logs", "nosuch"],
        &["exec", "d1", "true"],
    ];
    // Docker's client here speaks an older version of the API, which repeats some fields.
    let inspected = ["inspect", "c1", "d1", "busybox"];
    let (theirs, ours) = (docker.json(&inspected), daemon.dhow().json(&inspected));
    for at in 0..2 {
        let except: Vec<&str> = OWN.iter().copied().chain([".Config.OnBuild"]).collect();
        same("inspect", &theirs[at], &ours[at], &except);
    }
    for question in questions {
        let (theirs, ours) = (docker.try_run(question), daemon.dhow().try_run(question));
        assert_eq!((ours.code, &ours.stdout), (theirs.code, &theirs.stdout), "{question:?}\n{}", ours.stderr);
        assert_eq!(ours.stderr, theirs.stderr, "{question:?}");
    }
}

#[test]
fn errors_agree_word_for_word() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let (clients, name) = both(&daemon);
    let questions: &[&[&str]] = &[
        &["inspect", "nosuch"],
        &["start", "nosuch"],
        &["run", "--rm", "busybox", "nosuch"],
        &["run", "--rm", "busybox", "/etc/passwd"],
        &["create", "--name", "a b", "busybox"],
        &["create", "-v", "relative:/x:bad", "busybox"],
        &["create", "-v", "/x", "--mount", "type=bind,src=/nosuch-source,dst=/y", "busybox"],
        &["create", "--memory", "1m", "busybox"],
        &["create", "-w", "relative", "busybox"],
        &["create", "--network", "nosuch", "--name", "dhow-e2e-twin-net", "busybox"],
        &["create", "--cap-add", "BOGUS", "busybox"],
        &["create", "--restart", "bogus", "busybox"],
        &["create", "--restart", "always", "--rm", "busybox"],
        &["create", "--ipc", "bogus", "busybox"],
        &["create", "--pid", "container:nosuch", "busybox"],
        &["create", "--security-opt", "bogus=1", "busybox"],
        &["create", "--log-driver", "bogus", "busybox"],
        &["create", "--cpuset-cpus", "1-99999999", "busybox"],
        &["create", "--cpus", "1000", "busybox"],
        &["create", "--stop-signal", "BOGUS", "busybox"],
        &["create", "--device", "/nosuch-device", "--name", "dhow-e2e-twin-dev", "busybox"],
        &["create", "--volumes-from", "nosuch", "busybox"],
        &["volume", "inspect", "nosuch"],
        &["volume", "rm", "nosuch"],
        &["network", "inspect", "nosuch"],
        &["image", "inspect", "nosuch"],
        &["rmi", "nosuch"],
        &["tag", "nosuch", "x:1"],
        &["history", "nosuch"],
        &["exec", "nosuch", "true"],
        &["logs", "nosuch"],
        &["cp", "nosuch:/x", "/tmp"],
        &["kill", "nosuch"],
        &["ps", "--filter", "bogus=1"],
        &["images", "--filter", "bogus=1"],
        &["volume", "ls", "--filter", "bogus=1"],
    ];
    let mut differing = Vec::new();
    for question in questions {
        let mut answers = clients.iter().map(|client| {
            let output = client.try_run(question);
            if output.code == 0 && question[0] == "create" {
                let _ = client.try_run(&["rm", output.stdout.trim()]);
            }
            (output.code, output.stderr)
        });
        let (theirs, ours) = (answers.next().unwrap(), answers.next().unwrap());
        if theirs != ours {
            differing.push(format!("{question:?}\n  dockerd: {theirs:?}\n  dhowd:   {ours:?}"));
        }
    }
    let _ = name;
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
