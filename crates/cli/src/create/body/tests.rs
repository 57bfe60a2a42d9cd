//! Bodies compared with what Docker's client sends for the same words. Fields without a value are left out on both
//! sides: to the API they mean the same as absent ones.

use serde_json::{Value, json};

use super::*;
use crate::{cmd, flags};

fn build(line: &str) -> Result<CreateRequest> {
    let words: Vec<String> = line.split_whitespace().map(|word| word.replace('~', " ")).collect();
    let (command, called) = cmd::find(&["run".to_owned()]).map(|(command, called, _)| (command, called)).unwrap();
    let parsed = flags::parse(command, called, &words)?;
    let detached = parsed.on("detach");
    request(&parsed, detached)
}

fn check(line: &str, want: Value) {
    let mut body = build(line).unwrap_or_else(|error| panic!("{line}: {error}")).body;
    // The same in every request without the flag in question.
    if want.get("NetworkingConfig").is_none() {
        let map = body.as_object_mut().unwrap();
        assert_eq!(map.remove("NetworkingConfig"), Some(json!({"EndpointsConfig": {"default": {}}})), "{line}");
    }
    let host = body["HostConfig"].as_object_mut().unwrap();
    if want["HostConfig"].get("NetworkMode").is_none() {
        assert_eq!(host.remove("NetworkMode"), Some(json!("default")));
    }
    if want["HostConfig"].get("RestartPolicy").is_none() {
        assert_eq!(host.remove("RestartPolicy"), Some(json!({"Name": "no", "MaximumRetryCount": 0})));
    }
    assert_eq!(body, want, "{line}");
}

#[test]
fn plain_runs() {
    check(
        "--rm busybox echo hi",
        json!({"AttachStdout": true, "AttachStderr": true, "Cmd": ["echo", "hi"], "Image": "busybox", "HostConfig": {"AutoRemove": true}}),
    );
    check(
        "--rm -it busybox sh -c tty;~stty~size",
        json!({"AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": true, "OpenStdin": true, "StdinOnce": true,
            "Cmd": ["sh", "-c", "tty; stty size"], "Image": "busybox", "HostConfig": {"AutoRemove": true}}),
    );
    check(
        "-d --name life -p 127.0.0.1:18099:80 -e A=b -l k=v -m 64m --restart on-failure:2 --health-cmd true --health-interval 1s busybox top",
        json!({"ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Cmd": ["top"], "Image": "busybox", "Labels": {"k": "v"},
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000},
            "HostConfig": {"Memory": 67_108_864, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
                "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18099"}]}}}),
    );
}

#[test]
fn host_settings() {
    check(
        "-d --cpus 1.5 --memory-swap -1 --pids-limit 5 --ulimit nofile=1:2 --device /dev/null --cap-add A --dns 1.1.1.1 --add-host a=::1 --sysctl net.x=1 \
         --tmpfs /t:size=1m -v d:/d -v /anon --security-opt systempaths=unconfined --log-driver local --log-opt a=b --init=false --pid host x",
        json!({"Image": "x", "Volumes": {"/anon": {}}, "HostConfig": {"NanoCpus": 1_500_000_000, "MemorySwap": -1, "PidsLimit": 5,
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "CapAdd": ["CAP_A"], "Dns": ["1.1.1.1"], "ExtraHosts": ["a:::1"],
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/null", "CgroupPermissions": "rwm"}],
            "Sysctls": {"net.x": "1"}, "Tmpfs": {"/t": "size=1m"}, "Binds": ["d:/d"], "MaskedPaths": [], "ReadonlyPaths": [],
            "LogConfig": {"Type": "local", "Config": {"a": "b"}}, "Init": false, "PidMode": "host"}}),
    );
}

#[test]
fn networks() {
    check(
        "-d --network web --ip 10.0.0.2 --network-alias a --link c:d --network name=db,alias=b,gw-priority=2,driver-opt=K=v x",
        json!({"Image": "x", "HostConfig": {"NetworkMode": "web", "Links": ["c:d"]}, "NetworkingConfig": {"EndpointsConfig": {
            "web": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}, "Aliases": ["a"], "Links": ["c:d"]},
            "db": {"Aliases": ["b"], "GwPriority": 2, "DriverOpts": {"k": "v"}}}}}),
    );
    check(
        "-d -p 8000-8001:80-81/udp -p 53 --expose 7-8 x",
        json!({"Image": "x", "ExposedPorts": {"80/udp": {}, "81/udp": {}, "53/tcp": {}, "7/tcp": {}, "8/tcp": {}},
            "HostConfig": {"PortBindings": {"80/udp": [{"HostIp": "", "HostPort": "8000"}], "81/udp": [{"HostIp": "", "HostPort": "8001"}],
                "53/tcp": [{"HostIp": "", "HostPort": ""}]}}}),
    );
}

#[test]
fn contradictions_and_nonsense() {
    for (line, why) in [
        ("--rm --restart always x", "cannot specify both --restart and --rm"),
        ("-a foo x", "valid streams are STDIN, STDOUT and STDERR"),
        ("--no-healthcheck --health-cmd y x", "--no-healthcheck conflicts"),
        ("--health-retries -1 x", "cannot be negative"),
        ("--pid foo x", "--pid: invalid PID mode"),
        ("-p 99999:1 x", "invalid hostPort: 99999"),
        ("--add-host a x", "bad format for add-host"),
        ("--dns foo x", "IP address is not correctly formatted"),
        ("--mac-address zz x", "is not a valid mac address"),
        ("--security-opt foo x", "Invalid --security-opt"),
        ("--memory-swappiness 101 x", "Valid memory swappiness range is 0-100"),
        ("--network name=a --network a x", "is specified multiple times"),
        ("--network-alias a x", "only supported for user-defined networks"),
        ("--sysctl kernel.core_pattern=x y", "is not allowed"),
        ("--log-driver none --log-opt a=b x", "invalid logging opts for driver none"),
        ("--isolation x y", "invalid isolation"),
        ("--expose 1:2 x", "invalid port format for --expose"),
    ] {
        let error = build(line).expect_err(line);
        assert!(error.to_string().contains(why), "{line}: {error}");
        assert_eq!(error.exit_code(), 125, "{line}");
    }
}
