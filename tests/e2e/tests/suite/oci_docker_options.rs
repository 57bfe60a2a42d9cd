//! The OCI runtime under a real dockerd: what each option of `docker run` makes of a container.

use std::fs;

use e2e::{Dockerd, Sandbox};

use crate::eventually;
use crate::rows::answers;

#[test]
fn privileges() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let profile = dockerd.sandbox.text("profile.json");
    let rules = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
        {"names":["personality"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}"#;
    fs::write(&profile, rules).expect("a profile");
    let custom = format!("run --rm --security-opt seccomp={profile} busybox mkdir /x");
    let status = |flags: &str, field: &str| format!("run --rm {flags} busybox grep {field} /proc/self/status");
    let rows = [
        (status("", "CapEff"), 0, "00000000a80425fb"),
        (status("", "CapBnd"), 0, "00000000a80425fb"),
        (status("", "CapAmb"), 0, "0000000000000000"),
        (status("--cap-drop ALL", "CapEff"), 0, "0000000000000000"),
        (status("--cap-drop ALL --cap-add NET_RAW", "CapBnd"), 0, "0000000000002000"),
        (status("--cap-add SYS_TIME", "CapEff"), 0, "00000000aa0425fb"),
        (status("--user 5:6", "CapEff"), 0, "0000000000000000"),
        (status("--user 5:6", "CapBnd"), 0, "00000000a80425fb"),
        (status("--privileged", "CapEff"), 0, "!00000000a80425fb"),
        (status("", "Seccomp:"), 0, "2"),
        (status("--security-opt seccomp=unconfined", "Seccomp:"), 0, "0"),
        (status("--privileged", "Seccomp:"), 0, "0"),
        (status("--security-opt no-new-privileges", "NoNewPrivs"), 0, "1"),
        (status("", "NoNewPrivs"), 0, "0"),
        (custom, 1, "Permission denied"),
        ("run --rm busybox mkdir /x".into(), 0, ""),
        ("run --rm busybox unshare -m true".into(), 1, "not permitted"),
        ("run --rm --security-opt seccomp=unconfined --cap-add SYS_ADMIN busybox unshare -m true".into(), 0, ""),
        ("run --rm --user 5:6 busybox id".into(), 0, "uid=5 gid=6"),
        ("run --rm --user 65534 --group-add 10 --group-add 11 busybox id".into(), 0, "10"),
        ("run --rm busybox sh -c 'echo x >/proc/sys/kernel/hostname'".into(), 1, "Read-only"),
        ("run --rm --privileged busybox sh -c 'echo y >/proc/sys/kernel/hostname; hostname'".into(), 0, "y"),
        ("run --rm busybox sh -c 'mount | grep \"/sys \"'".into(), 0, "ro,"),
        ("run --rm --privileged busybox sh -c 'mount | grep \"/sys \"'".into(), 0, "rw,"),
        ("run --rm --privileged busybox sh -c 'ls /dev | wc -l'".into(), 0, "!\n15\n"),
        ("run --rm --security-opt systempaths=unconfined busybox sh -c 'mount | grep -c /proc/'".into(), 1, "0"),
    ];
    let rows: Vec<_> = rows.iter().map(|(line, code, text)| (line.as_str(), *code, *text)).collect();
    answers(&rows, |args| docker.try_run(args));
    dockerd.settles(&baseline);
}

#[test]
fn file_systems() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let source = dockerd.sandbox.text("source");
    fs::create_dir_all(format!("{source}/sub")).expect("a directory");
    fs::write(format!("{source}/file"), "from outside\n").expect("a file");
    // A mount below the source, for what is recursive and what spreads.
    dockerd.sandbox.run(&["mount", "-t", "tmpfs", "below", &format!("{source}/sub")]);
    let baseline = baseline.into_iter().chain([format!("mount {source}/sub")]).collect();
    let rows = [
        ("run --rm --read-only busybox touch /x".into(), 1, "Read-only"),
        ("run --rm --read-only --tmpfs /t busybox touch /t/x".into(), 0, ""),
        ("run --rm --tmpfs /t:size=1m,mode=700,noexec busybox sh -c 'mount | grep \"/t \"'".into(), 0, "noexec"),
        ("run --rm --tmpfs /t:size=1m,mode=700 busybox stat -c %a /t".into(), 0, "700"),
        ("run --rm --shm-size 2m busybox df -k /dev/shm".into(), 0, " 2048 "),
        (format!("run --rm -v {source}:/v busybox cat /v/file"), 0, "from outside"),
        (format!("run --rm -v {source}:/v:ro busybox touch /v/x"), 1, "Read-only"),
        (format!("run --rm -v {source}:/v busybox sh -c 'mount | grep -c \" /v\"'"), 0, "2"),
        (format!("run --rm -v {source}/file:/etc/file:ro busybox cat /etc/file"), 0, "from outside"),
        // A read-only bind is so in all its depth where the kernel can, as dockerd asks.
        (format!("run --rm -v {source}:/v:ro busybox touch /v/sub/x"), 1, "Read-only"),
        (
            format!(
                "run --rm --mount type=bind,src={source},dst=/v,bind-recursive=disabled busybox grep -c ' /v' /proc/self/mountinfo"
            ),
            0,
            "1",
        ),
        (format!("run --rm -v {source}:/v:rslave busybox sh -c 'grep \" /v \" /proc/self/mountinfo'"), 0, "master:"),
        (format!("run --rm -v {source}:/v:rshared busybox sh -c 'grep \" /v \" /proc/self/mountinfo'"), 0, "shared:"),
        ("run --rm -v /named:/data busybox sh -c 'echo kept >/data/x; cat /data/x'".into(), 0, "kept"),
        ("run --rm --mount type=volume,dst=/data busybox touch /data/x".into(), 0, ""),
        // Over a link inside the image: the link is followed in the container's root, not the host's.
        ("run --rm --tmpfs /etc/../t/./u busybox touch /t/u/x".into(), 0, ""),
        ("run --rm --device /dev/fuse busybox ls -l /dev/fuse".into(), 0, "10, 229"),
        ("run --rm --device /dev/null:/dev/other:r busybox ls -l /dev/other".into(), 0, "1,   3"),
        ("run --rm --device /dev/null:/dev/other:r busybox sh -c 'echo x >/dev/other'".into(), 0, ""),
        ("run --rm busybox sh -c 'ls /dev | tr \"\\n\" \" \"'".into(), 0, "fd full mqueue null ptmx pts random shm"),
        ("run --rm busybox sh -c 'ls -ld /dev/fd /dev/stdin; readlink /dev/ptmx'".into(), 0, "pts/ptmx"),
        ("run --rm busybox sh -c 'cat /etc/hostname; hostname'".into(), 0, ""),
    ];
    let rows: Vec<_> =
        rows.iter().map(|(line, code, text): &(String, i32, &str)| (line.as_str(), *code, *text)).collect();
    answers(&rows, |args| docker.try_run(args));
    dockerd.settles(&baseline);
}

#[test]
fn namespaces() {
    let Some(dockerd) = Dockerd::start(&[]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    docker.run(&["run", "-d", "--name", "other", "--ipc", "shareable", "-h", "named", "busybox", "sleep", "777"]);
    let private = "run --rm --cgroupns private busybox cat /proc/self/cgroup";
    answers(
        &[
            ("run --rm busybox ps", 0, "    1 root     ps"),
            ("run --rm --pid host busybox ps", 0, "dockerd"),
            ("run --rm --pid container:other busybox ps", 0, "sleep 777"),
            ("run --rm --ipc host busybox true", 0, ""),
            ("run --rm --ipc container:other busybox df /dev/shm", 0, "/dev/shm"),
            ("run --rm --ipc none busybox sh -c 'mount | grep -c /dev/shm'", 1, "0"),
            ("run --rm --uts host busybox hostname", 0, ""),
            (
                "run --rm -h given --domainname of.it busybox sh -c 'hostname; cat /proc/sys/kernel/domainname'",
                0,
                "given\nof.it",
            ),
            ("run --rm --network none busybox ip -o link", 0, "!eth0"),
            ("run --rm busybox ip -o link", 0, "eth0"),
            ("run --rm busybox ping -c 1 -W 5 172.17.0.1", 0, "1 packets received"),
            ("run --rm --network host busybox ip -o link", 0, "docker0"),
            ("run --rm --network container:other busybox hostname", 0, "named"),
            ("run --rm --userns host busybox true", 0, ""),
            (private, 0, ":/\n"),
            (private, 0, "!dhow-e2e"),
            ("run --rm --cgroupns host busybox cat /proc/self/cgroup", 0, "/dhow-e2e"),
            ("run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward", 0, "0"),
            ("run --rm --sysctl kernel.shm_rmid_forced=1 busybox cat /proc/sys/kernel/shm_rmid_forced", 0, "1"),
            ("run --rm --sysctl net.ipv4.ip_forward=word busybox true", 125, "ip_forward"),
        ],
        |args| docker.try_run(args),
    );
    dockerd.settles(&baseline);
}

#[test]
fn process_settings() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    answers(
        &[
            ("run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n; ulimit -Hn'", 0, "100\n200"),
            (
                "run --rm --ulimit core=0 --ulimit nproc=50 busybox cat /proc/self/limits",
                0,
                "Max processes             50",
            ),
            ("run --rm --oom-score-adj 500 busybox cat /proc/self/oom_score_adj", 0, "500"),
            ("run --rm busybox sh -c umask", 0, "0022"),
            ("run --rm --init busybox ps", 0, "docker-init"),
            ("run --rm --stop-signal INT busybox true", 0, ""),
            ("run --rm --annotation a.b/c=d busybox true", 0, ""),
            ("run --rm --memory 64m --memory-swap 64m --memory-swappiness 10 busybox true", 0, ""),
            ("run --rm --device-read-bps /dev/null:1mb busybox true", 125, ""),
            ("run --rm busybox sh -c 'ls -l /proc/self/fd | wc -l'", 0, "5"),
            ("run --rm busybox cat /proc/self/oom_score_adj", 0, "0"),
            ("run --rm busybox sh -c 'grep -c . /proc/keys'", 1, "0"),
            ("run --rm busybox sh -c 'ps -o pgid,sid | sed 1d | sort -u'", 0, "1     1"),
        ],
        |args| docker.try_run(args),
    );
    let raised =
        docker.try_run(&["run", "--rm", "--ulimit", "nofile=100:9999999", "busybox", "sh", "-c", "ulimit -Hn"]);
    let urgent =
        docker.try_run(&["run", "--rm", "--oom-score-adj", "-500", "busybox", "cat", "/proc/self/oom_score_adj"]);
    if Sandbox::lacks_sys_resource() {
        eprintln!("this host withholds CAP_SYS_RESOURCE: what needs it is refused by name");
        raised.expect_code(125);
        urgent.expect_code(125);
    } else {
        assert_eq!(
            (raised.expect_code(0).stdout.as_str(), urgent.expect_code(0).stdout.as_str()),
            ("9999999\n", "-500\n")
        );
    }
    dockerd.settles(&baseline);
}

#[test]
fn user_namespaces() {
    let Some(dockerd) = Dockerd::start(&["--bridge", "none", "--userns-remap", "alice"]) else { return };
    let docker = dockerd.docker();
    let baseline = dockerd.baseline();
    let volume = dockerd.sandbox.text("volume");
    fs::create_dir(&volume).expect("a directory");
    std::os::unix::fs::chown(&volume, Some(200_000), Some(200_000)).expect("root gives files away");
    docker.run(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
    let write = format!("run --rm -v {volume}:/v busybox sh -c 'touch /v/x; stat -c %u /v/x'");
    answers(
        &[
            ("run --rm busybox cat /proc/self/uid_map", 0, "200000"),
            ("run --rm busybox cat /proc/self/gid_map", 0, "200000"),
            ("run --rm busybox id -u", 0, "0"),
            ("run --rm --user 5:6 busybox id", 0, "uid=5 gid=6"),
            ("run --rm busybox touch /made", 0, ""),
            (&write, 0, "0"),
            ("run --rm --tmpfs /t busybox stat -c %u /t", 0, "0"),
            ("run --rm -t busybox sh -c 'stat -c %u $(tty)'", 0, "0"),
            ("run --rm busybox ls -l /dev/null", 0, "1,   3"),
            ("run --rm busybox sh -c 'echo x >/dev/null; stat -c %u /proc/1'", 0, "0"),
            ("run --rm --userns host busybox cat /proc/self/uid_map", 0, "4294967295"),
            ("run --rm --memory 64m --pids-limit 20 busybox true", 0, ""),
            ("exec c1 cat /proc/self/uid_map", 0, "200000"),
            ("exec -u 7 c1 id -u", 0, "7"),
            ("exec c1 grep CapEff /proc/self/status", 0, "00000000a80425fb"),
        ],
        |args| docker.try_run(args),
    );
    let owner = fs::metadata(format!("{volume}/x")).map(|file| std::os::unix::fs::MetadataExt::uid(&file));
    assert_eq!(owner.ok(), Some(200_000), "files of the container's root belong to the mapped user");
    eventually(10, "the container", || docker.inspect("c1")["State"]["Running"] == true);
    dockerd.settles(&baseline);
}
