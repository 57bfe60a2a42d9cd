//! What holds a container in: capabilities, filter, namespaces, masks and mounts, by what the
//! kernel itself says.

use crate::engine;

#[test]
fn the_default_sandbox_is_dockers() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    let output =
        dhow.run(&["run", "--rm", "busybox", "grep", "-E", "^(CapEff|CapBnd|CapAmb|Seccomp):", "/proc/self/status"]);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines,
        ["CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "CapAmb:\t0000000000000000", "Seccomp:\t2"]
    );
    for (script, answer) in [
        ("echo x > /proc/sys/kernel/shmmax", "Read-only file system"),
        ("mount -t tmpfs none /tmp", "permission denied"),
        ("unshare -U true", "Operation not permitted"),
        ("hostname other", "Operation not permitted"),
        ("echo x > /proc/irq/default_smp_affinity", "Read-only file system"),
        ("touch /sys/fs/x", "Read-only file system"),
    ] {
        let output = dhow.try_run(&["run", "--rm", "busybox", "sh", "-c", script]);
        assert_ne!(output.code, 0, "{script}: {output:?}");
        assert!(output.stderr.contains(answer), "{script}: {output:?}");
    }
    let masked = "for f in /proc/interrupts /proc/keys /proc/timer_list; do wc -c < $f; done; ls /sys/firmware | wc -l";
    assert_eq!(dhow.run(&["run", "--rm", "busybox", "sh", "-c", masked]), "0\n0\n0\n0");
}

#[test]
fn flags_change_what_they_name() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    let cases: &[(&[&str], &str, &str)] = &[
        (&["--hostname", "hilda"], "hostname", "hilda"),
        (&["--user", "65534:1234", "--group-add", "77"], "id -u; id -g; id -G", "65534\n1234\n1234 77"),
        (&["--read-only"], "touch /x 2>&1", "touch: /x: Read-only file system"),
        (&["--read-only", "--tmpfs", "/t:size=1m"], "touch /t/x; grep ' /t ' /proc/mounts | cut -d' ' -f3", "tmpfs"),
        (&["--cap-drop", "ALL"], "grep CapEff /proc/self/status", "CapEff:\t0000000000000000"),
        (&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
        (&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
        (&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn", "100\n200"),
        (&["--shm-size", "8m"], "df -k /dev/shm | tail -1 | awk '{print $2}'", "8192"),
        (&["--sysctl", "kernel.shmmax=1048576"], "cat /proc/sys/kernel/shmmax", "1048576"),
        (&["--init"], "grep -c . /proc/1/comm", "1"),
        (&["--volume", "/usr/share:/host:ro"], "touch /host/x 2>&1", "touch: /host/x: Read-only file system"),
        (&["--privileged"], "mount -t tmpfs none /tmp && grep Seccomp: /proc/self/status", "Seccomp:\t0"),
    ];
    for (flags, script, answer) in cases {
        let output = dhow.try_run(&[&["run", "--rm"][..], flags, &["busybox", "sh", "-c", script]].concat());
        assert_eq!(output.stdout.trim_end(), *answer, "{flags:?} {script}: {output:?}");
    }
}

#[test]
fn namespaces_are_shared_on_request() {
    let Some((_daemon, dhow)) = engine(false) else { return };
    dhow.run(&["run", "-d", "--name", "first", "--ipc", "shareable", "busybox", "sleep", "1000"]);
    let links = "for ns in pid ipc net; do readlink /proc/self/ns/$ns; done";
    let first = dhow.run(&["exec", "first", "sh", "-c", links]);
    let join = ["--pid", "container:first", "--ipc", "container:first", "--network", "container:first"];
    assert_eq!(dhow.run(&[&["run", "--rm"][..], &join, &["busybox", "sh", "-c", links]].concat()), first);
    dhow.run(&["rm", "-f", "first"]);
}
