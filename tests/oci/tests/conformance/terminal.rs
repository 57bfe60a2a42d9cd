//! config.md "Process", `terminal` and `consoleSize`, with runc's console socket.

use oci_tests::{Bundle, Console, Environment, Runtime};
use serde_json::json;

use crate::refused_for;

#[test]
fn a_terminal_comes_through_the_console_socket() {
    let Some(_) = Environment::get() else { return };
    let (runtime, console) = (Runtime::new(), Console::new());
    let bundle = Bundle::new()
        .terminal()
        .set("/process/consoleSize", json!({ "height": 33, "width": 111 }))
        .shell("tty; stty size; stat -c '%F %u %a' /dev/console /dev/pts/0; echo asked; read line; echo got $line; exec sleep 100000");
    let container = runtime.start_on(&bundle, &console);
    let mut terminal = console.receive();
    let said = terminal.until("asked");
    assert!(said.contains("/dev/pts/0") || said.contains("/dev/console"), "{said}");
    assert!(said.contains("33 111"), "{said}");
    assert_eq!(said.matches("character special file 0 6").count(), 2, "{said}");
    terminal.send("hello\n");
    assert!(terminal.until("got hello").contains("got hello"));
    assert_eq!(container.status(), "running");
}

#[test]
fn a_terminal_controls_its_container() {
    let Some(_) = Environment::get() else { return };
    let (runtime, console) = (Runtime::new(), Console::new());
    let bundle =
        Bundle::new().terminal().shell("trap 'echo interrupted; exit 3' INT; echo up; while :; do sleep 0.1; done");
    let container = runtime.start_on(&bundle, &console);
    let mut terminal = console.receive();
    let _ = terminal.until("up");
    terminal.send("\u{3}");
    assert!(terminal.until("interrupted").contains("interrupted"));
    oci_tests::eventually(30, "the end", || container.status() == "stopped");
}

#[test]
fn create_sends_the_terminal_before_the_start() {
    let Some(_) = Environment::get() else { return };
    let (runtime, console) = (Runtime::new(), Console::new());
    let bundle = Bundle::new().terminal().shell("echo begun; exec sleep 100000");
    runtime.prepare(&bundle);
    let _ = runtime.finish(runtime.command_on("create", &bundle, &["--console-socket", console.path()])).ok();
    let mut terminal = console.receive();
    let _ = runtime.call(&["start", bundle.id()]).ok();
    assert!(terminal.until("begun").contains("begun"));
}

#[test]
fn processes_of_exec_have_terminals_of_their_own() {
    let Some(_) = Environment::get() else { return };
    let (runtime, console) = (Runtime::new(), Console::new());
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let flags = ["--tty", "--detach", "--console-socket", console.path()];
    let _ = container.exec_with(&flags, &["/bin/sh", "-c", "tty; echo done; exec sleep 1000"]).ok();
    let said = console.receive().until("done");
    assert!(said.contains("/dev/pts/0"), "{said}");
}

#[test]
fn a_foreground_terminal_is_shown() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let output = container.exec_with(&["--tty"], &["/bin/sh", "-c", "test -t 1 && echo on a terminal; exit 5"]);
    assert_eq!(output.code, Some(5), "{output}");
    assert!(output.stdout.contains("on a terminal\r\n"), "{output}");
}

#[test]
fn terminals_and_sockets_go_together() {
    let Some(_) = Environment::get() else { return };
    let (runtime, console) = (Runtime::new(), Console::new());
    refused_for(runtime.run_with(&Bundle::new().terminal(), &["--detach"]), &["console"]);
    let socket = ["--detach", "--console-socket", console.path()];
    refused_for(runtime.run_with(&Bundle::new(), &socket), &["console socket"]);
    let nobody = ["--detach", "--console-socket", "/no/such/socket"];
    refused_for(runtime.run_with(&Bundle::new().terminal(), &nobody), &["/no/such/socket"]);
    let size = Bundle::new().terminal().set("/process/consoleSize", json!({ "height": 70_000, "width": 1 }));
    refused_for(runtime.run_with(&size, &socket), &["process.consoleSize.height"]);
}

/// Where no terminal is asked for, a size for one means nothing.
#[test]
fn a_size_without_a_terminal_is_passed_over() {
    let Some(_) = Environment::get() else { return };
    let bundle =
        Bundle::new().set("/process/consoleSize", json!({ "height": 3, "width": 4 })).shell("test -t 0 || echo none");
    assert_eq!(Runtime::new().run(&bundle).ok().stdout, "none\n");
}
