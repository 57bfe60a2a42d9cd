//! Volumes on shares of a network: the kernel's own servers of NFS and SMB, on loopback. They are one for the whole host,
//! so that only a machine of the tests' own has them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use e2e::Client;

use crate::{engine, eventually};

/// Whether this is the machine for it: file systems are the same whoever is process 1.
fn is_ours() -> bool {
    let ours = std::env::var("DHOW_TEST_VM").is_ok_and(|guest| guest == "plain");
    if !ours {
        eprintln!("skipped: servers of NFS and SMB need a machine of their own");
    }
    ours
}

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn a_volume_on_nfs() {
    if !is_ours() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("dhow-nfs-").tempdir().unwrap();
    let _server = nfs_server(dir.path());
    let Some((_daemon, dhow)) = engine(false) else { return };
    let options = "o=addr=127.0.0.1,vers=4,soft,nosuid";
    dhow.run(&["volume", "create", "-o", "type=nfs", "-o", "device=:/", "-o", options, "files"]);
    is_a_volume(&dhow, dir.path(), "nfs4");
    // Nobody serves there.
    let options = "o=addr=127.0.0.1,port=9,vers=4,soft";
    dhow.run(&["volume", "create", "-o", "type=nfs", "-o", "device=:/", "-o", options, "nobody"]);
    let failed = dhow.try_run(&["run", "--rm", "-v", "nobody:/v", "busybox", "true"]);
    failed.expect_error(125, "connection refused");
}

#[test]
fn a_volume_on_smb() {
    if !is_ours() {
        return;
    }
    // The server is no experiment any more since 6.6; that of 6.1.176 reads through a null pointer when a file is opened.
    if kernel() < (6, 6) {
        return eprintln!("skipped: this kernel's server of SMB takes the host down");
    }
    let dir = tempfile::Builder::new().prefix("dhow-smb-").tempdir().unwrap();
    let _server = smb_server(dir.path());
    let Some((_daemon, dhow)) = engine(false) else { return };
    let device = "device=//127.0.0.1/cargo";
    let options = "o=username=sailor,password=knots,uid=7,vers=3.1.1";
    dhow.run(&["volume", "create", "-o", "type=cifs", "-o", device, "-o", options, "files"]);
    is_a_volume(&dhow, dir.path(), "cifs");
    let options = "o=username=sailor,password=wrong,vers=3.1.1";
    dhow.run(&["volume", "create", "-o", "type=cifs", "-o", device, "-o", options, "shut"]);
    let failed = dhow.try_run(&["run", "--rm", "-v", "shut:/v", "busybox", "true"]);
    // As docker(1) says it of whatever "permission denied" is in.
    failed.expect_error(126, "permission denied");
    assert!(!failed.stderr.contains("wrong"), "{}", failed.stderr);
}

/// Containers share the volume `files`, whose files are those of `exported`, and the last to end gives it up.
fn is_a_volume(dhow: &Client, exported: &Path, kind: &str) {
    let mounted =
        || fs::read_to_string("/proc/mounts").unwrap().lines().any(|line| line.contains(&format!(" {kind} ")));
    assert!(!mounted(), "a volume is mounted when it is used");
    let script = format!("grep -q ' /v {kind} ' /proc/mounts && echo hello > /v/greeting");
    dhow.run(&["run", "--rm", "-v", "files:/v", "busybox", "sh", "-c", &script]);
    assert_eq!(fs::read_to_string(exported.join("greeting")).unwrap(), "hello\n");
    fs::write(exported.join("answer"), "ahoy").unwrap();
    dhow.run(&["run", "-d", "--name", "reader", "-v", "files:/v:ro", "busybox", "sleep", "1000"]);
    assert_eq!(dhow.run(&["exec", "reader", "cat", "/v/answer"]), "ahoy");
    dhow.try_run(&["exec", "reader", "touch", "/v/none"]).expect_code(1);
    dhow.try_run(&["volume", "rm", "files"]).expect_error(1, "volume is in use");
    assert!(mounted());
    dhow.run(&["rm", "-f", "reader"]);
    eventually("unmounting", || !mounted());
    dhow.run(&["volume", "rm", "files"]);
    assert!(exported.join("answer").exists(), "a share outlives the volume");
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves a directory as the root of NFS 4.
fn nfs_server(dir: &Path) -> Server {
    if !Path::new("/proc/fs/nfsd/threads").exists() {
        tool("mount", &["-t", "nfsd", "nfsd", "/proc/fs/nfsd"]);
    }
    let export = format!("127.0.0.1:{}", dir.display());
    tool("exportfs", &["-o", "rw,no_root_squash,insecure,no_subtree_check,fsid=0", &export]);
    // Answers the kernel who may have what.
    let mut mountd = Command::new("rpc.mountd");
    let server = Server(mountd.args(["--foreground", "--no-nfs-version", "3"]).stdin(Stdio::null()).spawn().unwrap());
    // The least of both: nothing is opened in the time of grace.
    tool("rpc.nfsd", &["--no-nfs-version", "3", "--grace-time", "10", "--lease-time", "10", "4"]);
    server
}

/// Serves a directory as the share `cargo`.
fn smb_server(dir: &Path) -> Server {
    fs::create_dir_all("/etc/ksmbd").unwrap();
    let config = format!(
        "[global]\nbind interfaces only = yes\ninterfaces = lo\n[cargo]\npath = {}\nread only = no\nforce user = root\n",
        dir.display()
    );
    fs::write("/etc/ksmbd/ksmbd.conf", config).unwrap();
    tool("ksmbd.adduser", &["-a", "sailor", "-p", "knots"]);
    let server = Server(Command::new("ksmbd.mountd").arg("--nodetach").stdin(Stdio::null()).spawn().unwrap());
    eventually("the server", || std::net::TcpStream::connect("127.0.0.1:445").is_ok());
    server
}

fn tool(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
}
