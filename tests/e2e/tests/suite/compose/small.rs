//! What Compose asks of an engine, in small projects of busybox: nothing is touched without a change, what changed is made
//! anew, secrets and configs come as archives, changed files are carried in, and services wait for each other.

use std::fs;
use std::process::{Child, Command, Stdio};

use e2e::Daemon;

use super::recorder::Recorder;
use super::{engines, name};
use crate::eventually;

const TWO: &str = r#"
services:
  one:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: KILL
    environment:
      WORD: ${WORD:-hello}
    volumes: ["data:/data"]
  two:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: KILL
    networks: [default, second]
networks:
  second: {}
volumes:
  data: {}
"#;

#[test]
fn nothing_is_touched_without_a_change_and_what_changed_is_made_anew() {
    for engine in engines() {
        let Some(daemon) = Daemon::with_network() else { return };
        let mut project = engine.small(&daemon, &name(), TWO);
        project.up(&[]);
        let [one, two] = ["one", "two"].map(|service| project.ids(&[service]));

        let recorder = Recorder::start(&project);
        project.up(&[]);
        let events = recorder.finish();
        assert!(events.is_empty(), "{engine:?}: {events:#?}");
        assert_eq!(["one", "two"].map(|service| project.ids(&[service])), [one.clone(), two.clone()]);

        project.run(&["exec", "-T", "one", "sh", "-c", "echo kept > /data/file; echo lost > /file"]);
        project.set("WORD", "bye");
        project.up(&[]);
        let now = project.ids(&["one"]);
        assert_eq!(now.len(), 1);
        assert_ne!(now, one, "{engine:?}: a change is a new container");
        assert_eq!(project.ids(&["two"]), two, "{engine:?}");
        let script = "echo $WORD; cat /data/file; test ! -e /file";
        assert_eq!(project.run(&["exec", "-T", "one", "sh", "-c", script]), "bye\nkept", "{engine:?}");
        let names = project.client.inspect(&now[0])["Name"].clone();
        assert_eq!(names, format!("/{}-one-1", project.name), "{engine:?}: it has the old one's name");

        project.up(&["--force-recreate"]);
        assert_ne!(project.ids(&["two"]), two, "{engine:?}");
        assert_eq!(project.ids(&[]).len(), 2, "{engine:?}");
        project.up(&["--scale", "two=2"]);
        assert_eq!(project.ids(&["two"]).len(), 2, "{engine:?}");
        project.run(&["down", "--volumes"]);
        assert_eq!(project.traces(), [], "{engine:?}");
    }
}

const FILES: &str = r#"
services:
  reader:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: KILL
    network_mode: none
    secrets:
      - source: token
        target: renamed
        uid: "65534"
        gid: "65534"
        mode: 0400
      - plain
      - ours
    configs:
      - source: greeting
        target: /etc/deep/er/greeting.conf
        mode: 0640
      - source: whole
secrets:
  token:
    environment: TOKEN
  plain:
    environment: TOKEN
  ours:
    file: ./ours.txt
configs:
  greeting:
    content: |
      hello ${WORD}
  whole:
    environment: TOKEN
"#;

#[test]
fn secrets_and_configs_come_as_archives() {
    for engine in engines() {
        let Some(daemon) = Daemon::with_network() else { return };
        let name = name();
        let project = engine.small(&daemon, &name, FILES).with("TOKEN", "s3cret").with("WORD", "world");
        fs::write(daemon.dir.path().join(&name).join("ours.txt"), "of a file").unwrap();
        project.up(&[]);
        let script = "stat -c '%n %a %u:%g' /run/secrets/* /etc/deep/er/* /whole; \
                      for file in /run/secrets/* /etc/deep/er/* /whole; do cat $file; echo; done";
        let seen = project.run(&["exec", "-T", "reader", "sh", "-c", script]);
        let expected = "/run/secrets/ours 644 0:0\n/run/secrets/plain 444 0:0\n/run/secrets/renamed 400 65534:65534\n\
                        /etc/deep/er/greeting.conf 640 0:0\n/whole 444 0:0\n\
                        of a file\ns3cret\ns3cret\nhello world\n\ns3cret\n";
        assert_eq!(format!("{seen}\n"), expected, "{engine:?}");
    }
}

const WATCHED: &str = r#"
services:
  web:
    image: busybox
    command: [sh, -c, "cat /conf/word; exec sleep 1000"]
    stop_signal: KILL
    network_mode: none
    develop:
      watch:
        - action: sync
          path: ./src
          target: /src
        - action: sync+restart
          path: ./conf
          target: /conf
"#;

/// Ended as by Ctrl-C when dropped.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn watch_carries_changed_files_in() {
    for engine in engines() {
        let Some(daemon) = Daemon::with_network() else { return };
        let name = name();
        let project = engine.small(&daemon, &name, WATCHED);
        let directory = daemon.dir.path().join(&name);
        for place in ["src/sub", "conf"] {
            fs::create_dir_all(directory.join(place)).unwrap();
        }
        project.up(&[]);
        let log = directory.join("watch.log");
        let out = fs::File::create(&log).unwrap();
        let mut command = project.command(&["watch", "--no-up"]);
        command.stdout(out.try_clone().unwrap()).stderr(out).stdin(Stdio::null());
        let watch = Watch(command.spawn().unwrap());
        let said = || fs::read_to_string(&log).unwrap_or_default();
        eventually(30, "a watch", || said().contains("Watch enabled"));
        let inside = |script: &str| project.try_run(&["exec", "-T", "web", "sh", "-c", script]).stdout;

        fs::write(directory.join("src/sub/file"), "one\n").unwrap();
        eventually(30, "the new file", || inside("cat /src/sub/file") == "one\n");
        fs::write(directory.join("src/sub/file"), "two\n").unwrap();
        eventually(30, "the changed file", || inside("cat /src/sub/file") == "two\n");
        fs::remove_file(directory.join("src/sub/file")).unwrap();
        eventually(30, "the removal", || inside("test -e /src/sub/file || echo gone") == "gone\n");
        fs::write(directory.join("conf/word"), "restarted\n").unwrap();
        eventually(30, "the restart", || project.run(&["logs", "--no-log-prefix", "web"]).contains("restarted"));
        drop(watch);
    }
}

const WAITING: &str = r#"
services:
  job:
    image: busybox
    command: [sh, -c, "sleep 1; echo done > /shared/result"]
    volumes: ["shared:/shared"]
  slow:
    image: busybox
    command: [sh, -c, "sleep 1; touch /ready; exec sleep 1000"]
    stop_signal: KILL
    healthcheck:
      test: [CMD, test, -e, /ready]
      interval: 200ms
      retries: 50
  last:
    image: busybox
    command: [sh, -c, "cat /shared/result; nslookup slow >/dev/null && echo found; exec sleep 1000"]
    stop_signal: KILL
    volumes: ["shared:/shared"]
    depends_on:
      job:
        condition: service_completed_successfully
      slow:
        condition: service_healthy
  ill:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: KILL
    profiles: [failing]
    healthcheck:
      test: [CMD, "false"]
      interval: 200ms
      retries: 2
  never:
    image: busybox
    command: [sleep, "1000"]
    profiles: [failing]
    depends_on:
      ill:
        condition: service_healthy
  broken:
    image: busybox
    command: [sh, -c, "exit 7"]
    profiles: [failing]
  after:
    image: busybox
    command: [sleep, "1000"]
    profiles: [failing]
    depends_on:
      broken:
        condition: service_completed_successfully
volumes:
  shared: {}
"#;

#[test]
fn services_wait_for_each_other() {
    for engine in engines() {
        let Some(daemon) = Daemon::with_network() else { return };
        let project = engine.small(&daemon, &name(), WAITING);
        project.run(&["up", "--detach"]);
        eventually(10, "the log", || project.run(&["logs", "--no-log-prefix", "last"]) == "done\nfound");
        let failing = |service: &str| project.try_run(&["--profile", "failing", "up", "--detach", service]);
        let ill = format!("dependency failed to start: container {}-ill-1 is unhealthy", project.name);
        failing("never").expect_error(1, &ill);
        let broken = "service \"broken\" didn't complete successfully: exit 7";
        failing("after").expect_error(1, broken);
        // In the foreground it prints what the containers print, and ends with the code that is asked for.
        let attached = project.try_run(&[
            "--profile",
            "failing",
            "up",
            "--no-log-prefix",
            "--exit-code-from",
            "broken",
            "--attach",
            "broken",
            "broken",
        ]);
        attached.expect_code(7);
    }
}
