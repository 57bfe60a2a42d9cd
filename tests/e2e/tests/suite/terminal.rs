//! Real pseudo terminals, typed at by `expect`.

use std::ffi::OsStr;
use std::process::Command;

use e2e::{Client, Daemon};

/// Runs an expect script in which `$client` stands for the client with its host.
pub fn expect(client: &Client, script: &str) {
    expect_of(&format!("{} -H {}", client.program.display(), client.host), client.config.as_os_str(), script);
}

/// The same with any words for `$client`.
pub fn expect_of(start: &str, config: &OsStr, script: &str) {
    let script = format!("set timeout 15\nset stty_init {{rows 33 cols 99}}\n{}", script.replace("$client", start));
    let output =
        Command::new("expect").args(["-c", &script]).env("DOCKER_CONFIG", config).env("TERM", "xterm").output();
    let output = output.expect("expect runs");
    assert!(
        output.status.success(),
        "{script}\n--- gave {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `must TEXT` waits for a text, `finish` for the end; both fail the script when it does not come.
pub const MUST: &str = "proc must {what} { expect $what {} timeout {puts \"no $what\"; exit 1} eof {puts \"end before $what\"; exit 1} }\n\
                    proc finish {} { expect eof {} timeout {puts \"no end\"; exit 1} }\n";

#[test]
fn run_it_is_a_terminal_of_the_right_size() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        expect(
            &client,
            &format!(
                "{MUST}spawn $client run --rm -it busybox sh\nmust \"#\"\nsend \"tty; stty size\\r\"\nmust \"/dev/pts/0\"\n\
                 must \"33 99\"\nsend \"exit 5\\r\"\nfinish\nlassign [wait] a b c code\nexit [expr $code != 5]"
            ),
        );
    }
}

#[test]
fn exec_it_and_interrupt() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        client.run(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"]);
        expect(
            &client,
            &format!(
                "{MUST}spawn $client exec -it c1 sh\nmust \"#\"\nsend \"sleep 100\\r\"\nsleep 0.5\nsend \"\\003\"\n\
                 send \"echo code=$?\\r\"\nmust \"code=130\"\nsend \"exit 0\\r\"\nfinish"
            ),
        );
        client.run(&["rm", "-f", "c1"]);
    }
}

#[test]
fn detach_keys_leave_the_container_running() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    for client in daemon.clients() {
        expect(
            &client,
            &format!(
                "{MUST}spawn $client run -it --name c1 busybox sh\nmust \"#\"\nsend \"\\020\\021\"\nfinish\nlassign [wait] a b c code\nexit $code"
            ),
        );
        assert_eq!(client.inspect("c1")["State"]["Running"], true);
        expect(
            &client,
            &format!(
                "{MUST}spawn $client attach c1\nsend \"echo back\\r\"\nmust \"back\\r\\nback\"\nsend \"exit\\r\"\nfinish"
            ),
        );
        client.run(&["rm", "-f", "c1"]);
    }
}
