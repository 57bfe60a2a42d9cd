//! Descriptors and files that pass between the caller and the container: further descriptors, pid files, pidfds.

use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::os::unix::net::UnixListener;

use oci_tests::{Bundle, Console, Environment, Runtime};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::refused_for;

/// A runtime whose caller has a file open as 3 and as 4.
fn holding(dir: &tempfile::TempDir) -> Runtime {
    let path = dir.path().join("given");
    std::fs::write(&path, "given\n").expect("a file");
    let script = format!("exec 3<{0} 4<{0}; exec \"$0\" \"$@\"", path.display());
    Runtime::new().wrapped(["sh", "-c", &script])
}

#[test]
fn descriptors_are_passed_on_when_asked_for() {
    let Some(_) = Environment::get() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = holding(&dir);
    let bundle = Bundle::new().shell("cat <&3; cat <&4 || echo closed");
    let output = runtime.run_with(&bundle, &["--preserve-fds", "1"]);
    assert_eq!(output.stdout, "given\nclosed\n", "{output}");
    let output = runtime.run_with(&bundle, &["--preserve-fds", "2"]);
    assert_eq!(output.stdout, "given\ngiven\n", "{output}");
    let output = runtime.run(&Bundle::new().shell("cat <&3 || echo closed"));
    assert_eq!(output.stdout, "closed\n", "{output}");
    let idle = Bundle::new().idle();
    let container = runtime.start(&idle);
    let output = container.exec_with(&["--preserve-fds", "1"], &["/bin/sh", "-c", "cat <&3; cat <&4 || echo closed"]);
    assert_eq!(output.stdout, "given\nclosed\n", "{output}");
    refused_for(runtime.run_with(&bundle, &["--preserve-fds", "many"]), &["preserve-fds"]);
}

/// Sockets of systemd's, as sd_listen_fds(3) hands them on.
#[test]
fn sockets_of_activation_are_passed_on() {
    let Some(_) = Environment::get() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("given");
    std::fs::write(&path, "given\n").expect("a file");
    let script = format!("exec 3<{}; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"", path.display());
    let runtime = Runtime::new().wrapped(["sh", "-c", &script]);
    let bundle = Bundle::new().shell("cat <&3; echo $LISTEN_FDS $LISTEN_PID");
    assert_eq!(runtime.run(&bundle).ok().stdout, "given\n1 1\n");
}

#[test]
fn pid_files_have_the_number_and_nothing_else() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for verb in ["create", "run"] {
        let bundle = Bundle::new().idle();
        runtime.prepare(&bundle);
        let file = bundle.dir().join("pid");
        let mut flags = vec!["--pid-file", file.to_str().expect("UTF-8")];
        if verb == "run" {
            flags.push("--detach");
        }
        let _ = runtime.finish(runtime.command_on(verb, &bundle, &flags)).ok();
        let state = runtime.call(&["state", bundle.id()]).ok().stdout;
        let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
        assert_eq!(std::fs::read_to_string(&file).expect("the pid file"), state["pid"].to_string());
        let _ = runtime.call(&["delete", "--force", bundle.id()]).ok();
    }
    // Relative to where the caller is, not to the bundle.
    let (bundle, dir) = (Bundle::new().idle(), tempfile::tempdir().expect("a directory"));
    runtime.prepare(&bundle);
    let mut command = runtime.command_on("create", &bundle, &["--pid-file", "here"]);
    command.current_dir(dir.path());
    let _ = runtime.finish(command).ok();
    assert!(dir.path().join("here").exists());
    let nowhere = Bundle::new();
    refused_for(runtime.run_with(&nowhere, &["--pid-file", "/no/such/dir/pid"]), &["/no/such/dir"]);
}

#[test]
fn a_pidfd_comes_through_its_socket() {
    let Some(environment) = Environment::get() else { return };
    if !environment.is_ours() {
        return;
    }
    let runtime = Runtime::new();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("pidfd.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let bundle = Bundle::new().idle();
    let container = runtime.start_with(&bundle, &["--pidfd-socket", path.to_str().expect("UTF-8")]);
    let (stream, _) = listener.accept().expect("a connection");
    let mut text = [0u8; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .expect("a message");
    let mut files: Vec<File> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            files.extend(fds.map(File::from));
        }
    }
    assert_eq!(files.len(), 1);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&files[0]);
    let mut info = String::new();
    File::open(format!("/proc/self/fdinfo/{fd}"))
        .and_then(|mut file| file.read_to_string(&mut info))
        .expect("the descriptor");
    assert!(info.lines().any(|line| line == format!("Pid:\t{}", container.pid())), "{info}");
}

#[test]
fn descriptors_do_not_mix_with_a_terminal() {
    let Some(_) = Environment::get() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (runtime, console) = (holding(&dir), Console::new());
    let bundle = Bundle::new().terminal().shell("cat <&3; echo done; exec sleep 100000");
    let _container = runtime.start_with(&bundle, &["--preserve-fds", "1", "--console-socket", console.path()]);
    let said = console.receive().until("done");
    assert!(said.contains("given"), "{said}");
}

/// The directory of the file may be others' to write to.
#[test]
fn pid_files_are_not_written_through_links() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().args(&["/bin/true"]);
    let (file, precious) = (bundle.dir().join("pid"), bundle.dir().join("precious"));
    std::fs::write(&precious, "precious").expect("a file");
    for name in ["pid", ".pid"] {
        std::os::unix::fs::symlink(&precious, bundle.dir().join(name)).expect("a link");
    }
    let _ = runtime.run_with(&bundle, &["--pid-file", file.to_str().expect("UTF-8")]);
    assert_eq!(std::fs::read_to_string(&precious).expect("the file"), "precious");
}
