//! What `run`'s flags do inside the container, compared with the defaults Docker documents.

use std::fs;

use e2e::Daemon;

#[test]
fn the_default_sandbox_is_dockers() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    // What the same commands print on real dockerd; both kernels are one, so equality is exact.
    let probes = [
        "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Umask)' /proc/self/status",
        // Where things are mounted, and how; the masks by place only, as ours are stricter (read-only, no set-id, no exec).
        "awk '{print $5}' /proc/self/mountinfo | grep -v -E '^/$|^/etc|/sys/fs/cgroup' | sort",
        "awk '{print $5, $6}' /proc/self/mountinfo | grep -E '^/(dev|proc/(bus|fs|irq|sys|sysrq)|sys$)' | sort",
        "ls -l /dev | awk '{print $1,$3,$4,$5,$6,$NF}' | sort",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range",
        "for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do wc -c < $f; done 2>&1",
        "echo x > /proc/sys/kernel/shmmax; echo $?",
        "mount -t tmpfs none /tmp; echo $?",
        "unshare -U true; echo $?",
        "env | grep -v -E 'HOSTNAME' | sort",
        "pwd; id; ls /sys/firmware | wc -l; tty; ulimit -n",
        "cat /proc/1/cmdline | tr '\\0' ' '",
    ];
    for probe in probes {
        let args = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", probe];
        let theirs = daemon.twin().try_run(&args);
        let ours = daemon.docker().try_run(&args);
        assert_eq!((ours.code, ours.stdout), (theirs.code, theirs.stdout), "{probe}");
    }
}

#[test]
fn flags_change_what_they_name() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let cases: &[(&[&str], &str)] = &[
        (&["--hostname", "hilda"], "hostname"),
        (&["--domainname", "example.test"], "cat /proc/sys/kernel/domainname"),
        (&["--user", "65534:1234", "--group-add", "77"], "id -u; id -g; id -G"),
        (&["--workdir", "/new/dir"], "pwd; ls -ld /new/dir | cut -c1-10"),
        (&["--read-only"], "touch /x; echo $?"),
        (
            &["--read-only", "--tmpfs", "/tmp:size=1m,mode=1777"],
            "touch /tmp/x && grep ' /tmp ' /proc/mounts | cut -d' ' -f3",
        ),
        (&["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"], "grep Cap /proc/self/status"),
        (&["--cap-add", "SYS_PTRACE"], "grep CapEff /proc/self/status"),
        (&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status"),
        (&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status"),
        (&["--ulimit", "nofile=100:200", "--ulimit", "core=0"], "ulimit -n; ulimit -Hn; ulimit -c"),
        (&["--shm-size", "8m"], "df -k /dev/shm | tail -1 | awk '{print $2}'"),
        (&["--sysctl", "net.ipv4.ip_forward=1"], "cat /proc/sys/net/ipv4/ip_forward"),
        (&["--init"], "cat /proc/1/comm | grep -c sh; true"),
        (&["--pid", "host"], "test -d /proc/2 && echo host"),
        (&["--device", "/dev/loop-control:/dev/lc"], "ls -l /dev/lc | awk '{print $1, $5, $6}'"),
        (&["--add-host", "a.test:10.1.2.3"], "grep a.test /etc/hosts"),
        (
            &["--dns", "9.9.9.9", "--dns-search", "x.test", "--dns-option", "ndots:2"],
            "grep -v '^#' /etc/resolv.conf | grep .",
        ),
        (&["--env", "A=1", "--env", "B"], "echo $A; echo ${B-unset}"),
        (&["--entrypoint", "/bin/echo"], "as arguments"),
        (&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"),
        (&["--cpuset-cpus", "0"], "grep Cpus_allowed_list /proc/self/status"),
        (&["--cpu-shares", "512"], "cat /sys/fs/cgroup/cpu/cpu.shares"),
        (&["--cpus", "0.25"], "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us"),
        (&["--pids-limit", "64"], "cat /sys/fs/cgroup/pids/pids.max"),
        (
            &["--memory", "32m", "--memory-reservation", "16m"],
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.soft_limit_in_bytes",
        ),
        (&["--ipc", "none"], "test -e /dev/shm; echo $?"),
        (&["--uts", "host"], "hostname"),
        (&["--mount", "type=tmpfs,dst=/t,tmpfs-size=2m"], "grep ' /t ' /proc/mounts | cut -d' ' -f2,3"),
        (
            &["--volume", "/usr/share:/host:ro"],
            "touch /host/x; echo $?; grep ' /host ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1",
        ),
    ];
    for (flags, script) in cases {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(*flags);
        args.push("busybox");
        if !flags.contains(&"--entrypoint") {
            args.extend(["sh", "-c"]);
        }
        args.push(script);
        let theirs = daemon.twin().try_run(&args);
        for client in daemon.clients() {
            let ours = client.try_run(&args);
            assert_eq!((ours.code, &ours.stdout), (theirs.code, &theirs.stdout), "{flags:?} {script}\n{}", ours.stderr);
        }
    }
}

#[test]
fn privileged_opens_what_it_should() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        let probe = "mount -t tmpfs none /tmp && grep Seccomp: /proc/self/status | tr -d '\\t'; test -e /dev/loop-control; echo $?; grep -c ' /sys .*ro,' /proc/mounts";
        let output = client.try_run(&["run", "--rm", "--privileged", "busybox", "sh", "-c", probe]);
        assert_eq!(output.stdout, "Seccomp:0\n0\n0\n", "{}", output.stderr);
    }
}

#[test]
fn namespaces_are_shared_on_request() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["run", "-d", "--name", "first", "--ipc", "shareable", "busybox", "sleep", "1000"]);
        let links = "for ns in pid ipc net; do readlink /proc/self/ns/$ns; done";
        let first = client.run(&["exec", "first", "sh", "-c", links]);
        let join = ["--pid", "container:first", "--ipc", "container:first", "--network", "container:first"];
        let mut args = vec!["run", "--rm"];
        args.extend(join);
        args.extend(["busybox", "sh", "-c", links]);
        assert_eq!(client.run(&args), first);
        let seen = client.run(&["run", "--rm", "--pid", "container:first", "busybox", "ps"]);
        assert!(seen.contains("sleep 1000"), "{seen}");
        client.run(&["rm", "-f", "first"]);
    }
}

#[test]
fn volumes_keep_copy_up_and_share() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&[
            "run",
            "--rm",
            "-v",
            "data:/etc",
            "busybox",
            "sh",
            "-c",
            "cat /etc/passwd > /dev/null && echo mine > /etc/own",
        ]);
        assert_eq!(
            client.run(&["run", "--rm", "-v", "data:/v", "busybox", "cat", "/v/own"]),
            "mine",
            "copied up, then kept"
        );
        client.run(&["run", "-d", "--name", "from", "-v", "data:/v", "busybox", "sleep", "100"]);
        assert_eq!(client.run(&["run", "--rm", "--volumes-from", "from", "busybox", "cat", "/v/own"]), "mine");
        client.try_run(&["volume", "rm", "data"]).expect_error(1, "volume is in use");
        client.run(&["rm", "-f", "from"]);
        let mountpoint = client.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]);
        assert_eq!(fs::read_to_string(format!("{mountpoint}/own")).unwrap(), "mine\n");
        client.run(&["volume", "rm", "data"]);
        client.run(&["run", "--rm", "-v", "/anonymous", "busybox", "true"]);
        assert_eq!(client.run(&["volume", "ls", "-q"]), "", "--rm takes anonymous volumes along");
    }
}

#[test]
fn init_reaps_orphans() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let docker = daemon.docker();
    docker.run(&[
        "run",
        "-d",
        "--init",
        "--name",
        "c1",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do (sleep 0.1 & ) ; done; sleep 100",
    ]);
    std::thread::sleep(std::time::Duration::from_millis(800));
    let states = docker.run(&["exec", "c1", "sh", "-c", "cat /proc/[0-9]*/stat | cut -d' ' -f3"]);
    assert!(!states.contains('Z'), "a zombie was left: {states}");
    docker.run(&["stop", "-t", "5", "c1"]);
    assert_eq!(docker.inspect("c1")["State"]["ExitCode"], 143);
}
