//! Containers through the real shim binary: streams, codes, surroundings, confinement.
//! Needs root and `/bin/busybox`; says so and passes where they are missing.

mod common;

use std::net::Shutdown;

use common::*;
use launch::*;

#[test]
fn output_and_code_reach_the_log_and_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let plan = plan(dir.path(), &root, PIPES, &["sh", "-c", "echo hello; echo oops >&2; exit 7"]);
    let mut shim = Shim::launch(dir, &plan, &[]);
    let record = shim.wait();
    assert_eq!((record.code, record.oom_killed), (7, false));
    assert_eq!(shim.stdout(), "hello\n");
    assert!(shim.log().contains(&("stderr".to_owned(), "oops\n".to_owned())));
    let run = shim.dir.path().join("run");
    assert_eq!(ExitRecord::decode(&std::fs::read(run.join("exit")).unwrap()).unwrap(), record);
    shim.forget();
    assert_eq!(std::fs::read(run.join("exit")).unwrap(), b"", "a record that was taken over is not found again");
}

#[test]
fn clients_that_attach_before_the_launch_miss_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let mut plan = plan(dir.path(), &root, PIPES, &["sh", "-c", "seq 200000; echo err >&2"]);
    plan.log = LogConfig::None;
    let mut shim = Shim::start(dir);
    let first = shim.attach(false);
    let second = shim.attach(false);
    shim.started(&plan, &[]);
    let reader = std::thread::spawn(move || demultiplex(second));
    let (out, err) = demultiplex(first);
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(out == expected.as_bytes());
    assert_eq!(err, b"err\n");
    assert_eq!(reader.join().unwrap(), (out, err));
    assert_eq!(shim.wait().code, 0);
    shim.forget();
}

#[test]
fn standard_input_arrives_and_its_end_does_too() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let plan = plan(dir.path(), &root, PIPES_STDIN, &["cat"]);
    let mut shim = Shim::start(dir);
    let mut client = shim.attach(true);
    shim.started(&plan, &[]);
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = client.try_clone().unwrap();
    let sent = data.clone();
    let thread = std::thread::spawn(move || {
        use std::io::Write;
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    client.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let (out, _) = demultiplex(client.try_clone().unwrap());
    thread.join().unwrap();
    let _ = &mut client;
    assert!(out == data, "{} of {} bytes came back", out.len(), data.len());
    assert_eq!(shim.wait().code, 0);
    shim.forget();
}

#[test]
fn a_terminal_is_one_and_can_be_resized() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let plan = plan(dir.path(), &root, TERMINAL, &["sh"]);
    let mut shim = Shim::start(dir);
    let mut client = shim.attach(true);
    shim.started(&plan, &[]);
    read_until(&mut client, "# ");
    say(&mut client, "stty size; tty; stat -f -c %T /dev/console; echo done-$((1+1))\n");
    let text = read_until(&mut client, "done-2");
    assert!(text.contains("30 90") && text.contains("/dev/pts/0") && text.contains("devpts"), "{text}");
    let resize = Request::Resize { exec_id: String::new(), rows: 11, cols: 22 };
    assert_eq!(shim.request(resize, &[]).0, Response::Done);
    say(&mut client, "stty size; echo done-$((2+2))\n");
    assert!(read_until(&mut client, "done-4").contains("11 22"));
    // Detaching ends nothing; attaching again finds the same shell.
    drop(client);
    let mut client = shim.attach(true);
    say(&mut client, "echo again-$((3+3)); exit 3\n");
    read_until(&mut client, "again-6");
    assert_eq!(shim.wait().code, 3);
    shim.forget();
}

#[test]
fn execs_run_inside_and_report_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let plan = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let mut shim = Shim::launch(dir, &plan, &[]);
    let output = Streams { stdin: false, stdout: true, stderr: true };
    let script = "hostname; echo $PPID; cat /proc/1/cmdline; echo bad >&2; exit 5";
    let (response, stream) = shim.exec("e1", process(&["sh", "-c", script]), PIPES, output);
    assert!(matches!(response, Response::ExecStarted { .. }), "{response:?}");
    let (out, err) = demultiplex(stream.unwrap());
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("vessel\n0\nsleep\u{0}1000"), "{out}");
    assert_eq!(err, b"bad\n");
    assert_eq!(
        shim.wait_event(|event| matches!(event, Event::ExecExited { .. })),
        Event::ExecExited { exec_id: "e1".to_owned(), code: 5 }
    );

    let both = Streams { stdin: true, stdout: true, stderr: false };
    let (_, stream) = shim.exec("e2", process(&["sh"]), TERMINAL, both);
    let mut stream = stream.unwrap();
    read_until(&mut stream, "# ");
    say(&mut stream, "tty; stty size; exit 9\n");
    assert!(read_until(&mut stream, "30 90").contains("/dev/pts/0"));
    assert_eq!(
        shim.wait_event(|event| matches!(event, Event::ExecExited { .. })),
        Event::ExecExited { exec_id: "e2".to_owned(), code: 9 }
    );

    for (args, errno, words) in [
        (vec!["nosuchcmd"], 2, "exec: \"nosuchcmd\": executable file not found in $PATH"),
        (vec!["/etc/passwd"], 13, "exec: \"/etc/passwd\": permission denied"),
        (vec!["/nosuch"], 2, "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
    ] {
        let (response, _) = shim.exec("e3", process(&args), PIPES, output);
        let Response::Failed { stage, errno: got, detail } = response else { panic!("{response:?}") };
        assert_eq!((stage, got, detail.as_str()), (FailureStage::Exec, errno, words));
    }

    assert_eq!(shim.request(Request::Signal { exec_id: String::new(), signal: 9 }, &[]).0, Response::Done);
    assert_eq!(shim.wait().code, 137);
    let (response, _) = shim.exec("e4", process(&["true"]), PIPES, output);
    assert!(matches!(response, Response::Failed { stage: FailureStage::NotRunning, .. }), "{response:?}");
    shim.forget();
}

#[test]
fn a_failed_launch_says_why_and_leaves_nothing() {
    let cases: [(&[&str], &str, i32, FailureStage, &str); 4] = [
        (&["nosuch"], "/", 2, FailureStage::Exec, "executable file not found in $PATH"),
        (&["/etc/passwd"], "/", 13, FailureStage::Exec, "permission denied"),
        (&["/etc"], "/", 13, FailureStage::Exec, "is a directory"),
        (&["true"], "/etc/passwd/x", 20, FailureStage::Cwd, "mkdir /etc/passwd/x"),
    ];
    for (args, cwd, errno, stage, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        let Some(root) = rootfs(dir.path()) else { return };
        let mut plan = plan(dir.path(), &root, PIPES, args);
        plan.process.cwd = cwd.to_owned();
        let mut shim = Shim::start(dir);
        match shim.try_launch(&plan, &[]) {
            Response::Failed { stage: got, errno: number, detail } => {
                assert_eq!((got, number), (stage, errno), "{detail}");
                assert!(detail.contains(words), "{detail}");
            }
            other => panic!("{other:?}"),
        }
        assert!(shim.child.wait().unwrap().success());
        assert!(std::fs::read_dir(shim.dir.path().join("run")).unwrap().next().is_none());
    }
}

#[test]
fn the_surroundings_are_the_containers_own() {
    let script = "for n in net pid mnt uts ipc; do readlink /proc/self/ns/$n; done;\
        echo pid=$$; hostname; ip addr show lo | grep -c LOOPBACK,UP; cat /proc/sys/net/ipv4/ip_unprivileged_port_start;\
        ls -l /dev/ | grep -c ' -> '; ls /proc/self/fd; umask; ls -d /oldroot /host 2>/dev/null; mount | wc -l";
    let Some((text, code)) = run(&["sh", "-c", script]) else { return };
    assert_eq!(code, 0, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    for (line, name) in lines.iter().zip(["net", "pid", "mnt", "uts", "ipc"]) {
        let ours = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(*line, ours.to_str().unwrap());
    }
    assert_eq!(&lines[5..10], ["pid=1", "vessel", "1", "0", "5"], "{text}");
    // 0 to 2 and the descriptor of the listing itself.
    assert_eq!(&lines[10..15], ["0", "1", "2", "3", "0022"], "{text}");
    let mounts: usize = lines[15].trim().parse().unwrap();
    assert!(mounts < 25, "{mounts} mounts: the host's are still there");
}

#[test]
fn privileges_are_those_of_the_plan() {
    let status = "grep -E '^(Cap|NoNewPrivs|Groups|Uid)' /proc/self/status";
    let Some((text, _)) = run(&["sh", "-c", status]) else { return };
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
    ] {
        assert!(text.contains(line) || text.contains(&line.replace('\t', "\\u0009")), "{line} in {text}");
    }
    let (text, _) =
        run_with(&["sh", "-c", &format!("{status}; echo x > /dev/stderr; touch /dev/shm/ok; id -g")], |plan| {
            plan.process.uid = 1000;
            plan.process.gid = 1000;
            plan.process.groups = vec![1000, 2000];
            plan.process.no_new_privileges = true;
        })
        .unwrap();
    let text = text.replace("\\u0009", "\t");
    for line in [
        "Uid:\t1000\t1000\t1000\t1000",
        "Groups:\t1000 2000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "NoNewPrivs:\t1",
        "x\n",
        "1000\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let (text, _) = run_with(&["sh", "-c", status], |plan| {
        plan.process.uid = 1000;
        plan.process.ambient = 1 << 10;
    })
    .unwrap();
    assert!(text.replace("\\u0009", "\t").contains("CapEff:\t0000000000000400"), "{text}");
}

#[test]
fn masked_and_read_only_paths_hold() {
    let script = "wc -c < /proc/timer_list; wc -c < /proc/keys; ls /sys/firmware | wc -l;\
        echo x > /proc/sys/kernel/core_pattern; echo x > /proc/irq/default_smp_affinity; touch /sys/x; chmod 777 /proc/keys;\
        stat -c %a /dev/null; mount -o remount,rw /proc/sys 2>&1 | grep -c denied";
    let Some((text, _)) = run(&["sh", "-c", script]) else { return };
    let lines: Vec<&str> = text.lines().filter(|line| line.len() < 4).collect();
    assert_eq!(lines, ["0", "0", "0", "666", "1"], "{text}");
    assert!(text.contains("chmod: /proc/keys: "), "{text}");
    for path in ["core_pattern", "default_smp_affinity", "/sys/x"] {
        assert!(text.contains(&format!("{path}: Read-only file system")), "{path} in {text}");
    }
    let (text, code) =
        run_with(&["sh", "-c", "touch /x || touch /dev/shm/y"], |plan| plan.readonly_rootfs = true).unwrap();
    assert!(text.contains("Read-only") && code == 0, "{text}");
}

#[test]
fn links_in_the_image_cannot_lead_mounts_out() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let canary = dir.path().join("canary");
    std::fs::create_dir(&canary).unwrap();
    std::os::unix::fs::symlink(format!("../../../../..{}", canary.display()), root.join("link")).unwrap();
    let mut first = plan(dir.path(), &root, PIPES, &["ls", "/link/"]);
    first.mounts.push(Mount {
        ..Mount::new(
            MountKind::Fs { fstype: "tmpfs".to_owned(), source: "t".to_owned(), options: Vec::new() },
            "/link/deep",
        )
    });
    let mut shim = Shim::launch(dir, &first, &[]);
    assert_eq!(shim.wait().code, 0);
    assert_eq!(shim.stdout(), "deep\n");
    shim.forget();
    assert!(std::fs::read_dir(&canary).unwrap().next().is_none());

    for name in ["proc", "sys", "dev"] {
        let dir = tempfile::tempdir().unwrap();
        let root = rootfs(dir.path()).unwrap();
        std::fs::remove_dir(root.join(name)).unwrap();
        std::os::unix::fs::symlink("/etc", root.join(name)).unwrap();
        let plan = plan(dir.path(), &root, PIPES, &["true"]);
        let response = Shim::start(dir).try_launch(&plan, &[]);
        assert!(
            matches!(&response, Response::Failed { stage: FailureStage::Mount, detail, .. } if detail.contains("link")),
            "{response:?}"
        );
    }
}

#[test]
fn a_working_directory_through_a_descriptor_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let sleeper = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let mut shim = Shim::launch(dir, &sleeper, &[]);
    for number in 3..40 {
        let mut process = process(&["true"]);
        process.cwd = format!("/proc/self/fd/{number}");
        let (response, _) = shim.exec("e", process, PIPES, Streams::default());
        assert!(matches!(response, Response::Failed { stage: FailureStage::Cwd, .. }), "{number}: {response:?}");
    }
}

#[test]
fn init_passes_signals_on_and_reaps() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let script = "trap 'echo got; exit 4' TERM; (sleep 0.01 & ) ; echo ready-$$; while :; do sleep 0.05; done";
    let mut plan = plan(dir.path(), &root, PIPES, &["sh", "-c", script]);
    plan.init = true;
    let mut shim = Shim::start(dir);
    let mut client = shim.attach(false);
    shim.started(&plan, &[]);
    assert!(read_until(&mut client, "ready-").contains("ready-2"));
    assert_eq!(shim.request(Request::Signal { exec_id: String::new(), signal: 15 }, &[]).0, Response::Done);
    assert_eq!(shim.wait().code, 4);
    assert!(shim.stdout().ends_with("got\n"));
    shim.forget();
}

#[test]
fn a_pid_namespace_can_be_joined() {
    use std::os::fd::AsFd;
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let sleeper = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let shim = Shim::launch(dir, &sleeper, &[]);
    let dir = tempfile::tempdir().unwrap();
    let root = rootfs(dir.path()).unwrap();
    let mut second = plan(dir.path(), &root, PIPES, &["cat", "/proc/1/cmdline"]);
    second.namespaces.pid = NamespaceSource::Join(0);
    second.namespaces.net = NamespaceSource::Join(1);
    let open = |name: &str| std::fs::File::open(format!("/proc/{}/ns/{name}", shim.pid)).unwrap();
    let (pid, net) = (open("pid"), open("net"));
    let mut joined = Shim::launch(dir, &second, &[pid.as_fd(), net.as_fd()]);
    assert_eq!(joined.wait().code, 0);
    assert!(joined.stdout().starts_with("sleep"));
    joined.forget();
}

#[test]
fn the_daemon_may_go_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let sleeper = plan(dir.path(), &root, PIPES, &["sh", "-c", "echo one; sleep 1000"]);
    let mut shim = Shim::launch(dir, &sleeper, &[]);
    let path = shim.dir.path().join("run/shim.sock");
    shim.socket = sys::socket::FdSocket::connect(&path).unwrap();
    let (Response::State(state), _) = shim.request(Request::State, &[]) else { panic!() };
    assert_eq!((state.pid, state.exit), (shim.pid, None));
    assert!(matches!(shim.request(Request::Forget, &[]).0, Response::Failed { .. }), "it still runs");
    // Nobody is connected when it ends: the record stays, the shim leaves.
    let (other, _) = sys::socket::FdSocket::pair().unwrap();
    let pid = shim.pid;
    shim.socket = other;
    sys::process::kill_child(pid, 9).unwrap();
    assert!(shim.child.wait().unwrap().success());
    let record = ExitRecord::decode(&std::fs::read(shim.dir.path().join("run/exit")).unwrap()).unwrap();
    assert_eq!(record.code, 137);
    shim.pid = 0;
}

#[test]
fn without_a_socket_the_binary_explains_itself() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_dhow-shim"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(125));
    assert!(String::from_utf8(out.stderr).unwrap().contains("dhowd"));
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_dhow-shim")).arg("--version").output().unwrap();
    assert!(out.status.success() && out.stdout.starts_with(b"dhow-shim version "));
}
