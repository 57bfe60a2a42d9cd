//! Legacy links on the default bridge and links on networks of users: names, variables and lines of hosts files, how they
//! follow their targets, and every refusal in Docker's words.

use e2e::{Client, Daemon};

use crate::eventually;

/// Addresses that a name has in a container by way of its C library, as programs see it.
fn address(client: &Client, container: &str, name: &str) -> Option<String> {
    let output = client.try_run(&["exec", container, "ping", "-c1", "-W1", name]);
    let text = output.stdout.split_once('(')?.1;
    Some(text.split_once(')')?.0.to_owned())
}

fn address_of(client: &Client, container: &str, network: &str) -> String {
    client.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
}

/// The same links on real dockerd and on ours: variables of the program and of an exec, lines of the hosts file, and what
/// inspect and the list show.
#[test]
fn variables_and_hosts_are_dockers() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let tag = format!("dhow-e2e-links-{}", std::process::id());
    let (target, app) = (format!("{tag}-db"), format!("{tag}-app"));
    let exposed = ["80", "8000-8003", "53/udp", "5000-5001/udp", "9000/sctp"];
    let shown = [daemon.twin(), daemon.docker()].map(|client| {
        let mut run = vec!["run", "-d", "--name", &target];
        run.extend(exposed.iter().flat_map(|port| ["--expose", port]));
        run.extend([
            "-e",
            "FOO=bar",
            "-e",
            "EMPTY=",
            "-e",
            "A_1=x=y",
            "-e",
            "PATH=/own:/bin",
            "busybox",
            "sleep",
            "1000",
        ]);
        client.run(&run);
        let link = format!("{target}:db-one");
        let own = ["-e", "DB_ONE_NAME=mine", "-e", "ZZ=1"];
        let mut run = vec!["run", "-d", "--name", &app, "--link", &link];
        run.extend(own);
        run.extend(["busybox", "sleep", "1000"]);
        client.run(&run);
        let (ip, own_ip) = (address_of(&client, &target, "bridge"), address_of(&client, &app, "bridge"));
        let [id, own_id] = [&target, &app].map(|name| client.inspect(name)["Id"].as_str().unwrap()[..12].to_owned());
        let plain = |text: String| {
            let text = text.replace(&own_ip, "OWN-IP").replace(&ip, "IP").replace(&own_id, "OWN-ID").replace(&id, "ID");
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let program = client.run(&["exec", &app, "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ"]);
        // dockerd keeps no order among those of the target's own variables.
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        let told = [
            sorted(plain(program)),
            sorted(plain(client.run(&["exec", &app, "env"]))),
            plain(client.run(&["exec", &app, "cat", "/etc/hosts"])),
            plain(client.run(&["inspect", "-f", "{{json .Config.Env}} {{json .HostConfig.Links}}", &app])),
            plain(client.run(&["ps", "--no-trunc", "--filter", &format!("name={target}"), "--format", "{{.Names}}"])),
        ];
        client.run(&["rm", "-f", &app, &target]);
        told
    });
    let [theirs, ours] = shown;
    assert!(theirs[0].len() > 40, "{theirs:?}");
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs, ours);
    }
}

/// On a network of a user there are no variables, and an alias means whoever has the target's name.
#[test]
fn aliases_follow_their_targets() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let client = daemon.docker();
    client.run(&["network", "create", "net"]);
    for (network, target, app) in [("bridge", "t1", "a1"), ("net", "t2", "a2")] {
        let place = ["--network", network];
        let run = |name: &str, more: &[&str]| {
            let mut args = vec!["run", "-d", "--name", name];
            args.extend(place);
            args.extend(more);
            args.extend(["busybox", "sleep", "1000"]);
            client.run(&args);
        };
        run(target, &["--expose", "80"]);
        let link = format!("{target}:store");
        run(app, &["--link", &link]);
        let before = address_of(&client, target, network);
        assert_eq!(address(&client, app, "store").as_ref(), Some(&before), "{network}");
        let variables = client.run(&["exec", app, "env"]);
        assert_eq!(variables.contains(&format!("STORE_PORT=tcp://{before}:80")), network == "bridge", "{variables}");

        client.run(&["stop", "-t", "0", target]);
        assert_eq!(address(&client, app, "store"), None, "{network}: it is stopped");
        assert!(!client.run(&["exec", app, "cat", "/etc/hosts"]).contains("store"), "{network}");
        // Somebody else gets the address meanwhile.
        run(&format!("{target}-other"), &[]);
        client.run(&["start", target]);
        let after = address_of(&client, target, network);
        assert_ne!(before, after);
        assert_eq!(address(&client, app, "store").as_ref(), Some(&after), "{network}: it has another address");
        let hosts = client.run(&["exec", app, "cat", "/etc/hosts"]);
        assert_eq!(hosts.contains(&format!("{after}\tstore ")), network == "bridge", "{hosts}");
        let variables = client.run(&["exec", app, "env"]);
        assert_eq!(variables.contains(&format!("STORE_PORT=tcp://{after}:80")), network == "bridge", "{variables}");
        client.run(&["rm", "-f", &format!("{target}-other")]);
    }
    // One of the default bridge means the container, one of another network the name.
    client.run(&["rename", "t1", "t1-new"]);
    client.run(&["rename", "t2", "t2-new"]);
    assert!(address(&client, "a1", "store").is_some());
    assert_eq!(address(&client, "a2", "store"), None);
    assert_eq!(client.inspect("a1")["HostConfig"]["Links"][0], "/t1-new:/a1/store");
    client.run(&["rename", "t2-new", "t2"]);
    assert!(address(&client, "a2", "store").is_some());
    // Taken away.
    client.run(&["rm", "--link", "a1/store"]);
    assert_eq!(address(&client, "a1", "store"), None);
    assert!(client.inspect("a1")["HostConfig"]["Links"].is_null());
    client.run(&["rm", "-f", "a1", "a2", "t1-new", "t2"]);
}

/// A link comes with a network to a container that runs, whether its target is there already or not.
#[test]
fn a_network_brings_links() {
    let Some(mut daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let client = daemon.docker();
    client.run(&["network", "create", "net"]);
    client.run(&["run", "-d", "--name", "target", "--network", "net", "busybox", "sleep", "1000"]);
    client.run(&["run", "-d", "--name", "app", "busybox", "sleep", "1000"]);
    client.run(&["network", "connect", "--link", "target:one", "--link", "later:two", "net", "app"]);
    let ip = address_of(&client, "target", "net");
    assert_eq!(address(&client, "app", "one"), Some(ip.clone()));
    assert_eq!(address(&client, "app", "two"), None);
    client.run(&["run", "-d", "--name", "later", "--network", "net", "busybox", "sleep", "1000"]);
    let later = address_of(&client, "later", "net");
    assert_eq!(address(&client, "app", "two").as_ref(), Some(&later));
    // Another daemon knows them as well.
    daemon.kill();
    daemon.launch();
    let client = daemon.docker();
    eventually(10, "knowing the links of before", || address(&client, "app", "two").as_ref() == Some(&later));
    client.run(&["network", "disconnect", "net", "app"]);
    assert_eq!(address(&client, "app", "one"), None);
    client.run(&["rm", "-f", "app", "target", "later"]);
}

#[test]
fn refusals_of_links_are_dockers() {
    let Some(daemon) = Daemon::with_network() else { return };
    daemon.busybox();
    let tag = format!("dhow-e2e-links-{}", std::process::id());
    let (stopped, app, host) = (format!("{tag}-stopped"), format!("{tag}-linked"), format!("{tag}-host"));
    let links = [&stopped, &host].map(|name| format!("{name}:x"));
    let taken = format!("{app}/nosuch");
    let rows: &[&[&str]] = &[
        &["create", "--link", "nosuch:x", "busybox", "true"],
        &["create", "--link", &links[1], "busybox", "true"],
        &["create", "--network", "host", "--link", &links[0], "busybox", "true"],
        &["create", "--network", "container:nosuch", "--link", &links[0], "busybox", "true"],
        &["start", &app],
        &["rm", "--link", &app],
        &["rm", "--link", &taken],
        &["rm", "--link", "nosuch/nosuch"],
    ];
    let told = [daemon.twin(), daemon.docker()].map(|client| {
        client.run(&["run", "--name", &stopped, "busybox", "true"]);
        client.run(&["create", "--name", &host, "--network", "host", "busybox", "true"]);
        client.run(&["create", "--name", &app, "--link", &links[0], "busybox", "true"]);
        let told: Vec<(i32, String)> = rows
            .iter()
            .map(|row| {
                let output = client.try_run(row);
                (output.code, output.stderr.trim().to_owned())
            })
            .collect();
        client.run(&["rm", "-f", &app, &stopped, &host]);
        told
    });
    let [theirs, ours] = told;
    for ((row, theirs), ours) in rows.iter().zip(&theirs).zip(&ours) {
        assert_eq!(theirs, ours, "{row:?}");
        assert_ne!(theirs.0, 0, "{row:?}");
    }
}
