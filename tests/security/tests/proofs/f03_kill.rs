//! F03: a command that is killed at any of its system calls, or whose container's process is. What there is afterwards
//! is nothing, or a container that `state` shows and `delete --force` removes with everything that belongs to it.

use std::process::Command;

use oci_tests::{Bundle, Environment, Runtime, eventually};
use security::Attack;
use serde_json::Value;

/// Whose system calls are counted: the command's, or those of the processes it makes.
const COMMAND: &str = "self";
const CHILD: &str = "child";

/// What `kill_at` ends with when it killed, and when everything was over before.
const KILLED: i32 = 0;
const OVER: i32 = 9;

/// More system calls than any command makes: a sweep ends long before.
const MOST: usize = 100_000;

/// The command below the program that kills.
fn killed_at(attack: &Attack, who: &str, call: usize, command: &Command) -> Command {
    let mut killed = Command::new(attack.path());
    killed.arg(who).arg(call.to_string()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => killed.env(name, value),
            None => killed.env_remove(name),
        };
    }
    killed.stdin(std::process::Stdio::null());
    killed
}

/// Kills at the first, second, third … system call, each in a run of its own; `before` makes what the command needs,
/// `after` looks at what is left. Between long runs most calls are left out, others each time.
fn sweep(runtime: &Runtime, who: &str, mut before: impl FnMut() -> Command, mut after: impl FnMut(&str)) {
    let environment = Environment::get().expect("an environment");
    let attack = Attack::build("kill_at");
    let stride = if environment.long { 1 } else { 17 };
    let mut call = if environment.long { 1 } else { 1 + std::process::id() as usize % stride };
    let mut kills = 0;
    while call < MOST {
        let output = runtime.finish(killed_at(&attack, who, call, &before()));
        match output.code {
            Some(KILLED) => after(&format!("{who} killed at system call {call}: {output}")),
            Some(OVER) => break,
            _ => panic!("nothing was killed: {output}"),
        }
        kills += 1;
        call += stride;
    }
    eprintln!("{who}: killed {kills} times over {call} system calls");
    assert!(kills > 3 && call < MOST, "{who}: killed {kills} times over {call} system calls");
}

/// Nothing, or a container with a state, which goes without a trace.
#[track_caller]
fn assert_whole_or_absent(runtime: &Runtime, id: &str, what: &str) {
    let state = runtime.call(&["state", id]);
    if state.success() {
        let document: Value = serde_json::from_str(&state.stdout).expect("a state that is JSON");
        let status = document["status"].as_str().unwrap_or_default();
        assert!(["creating", "created", "running", "stopped"].contains(&status), "{what}: {state}");
        let deleted = runtime.call(&["delete", "--force", id]);
        assert!(deleted.success(), "{what}: {state}\n{deleted}");
    } else {
        assert!(state.stderr.contains("does not exist"), "{what}: {state}");
    }
    let left = runtime.leftovers();
    assert!(left.is_empty(), "{what}: left behind after {}:\n{}", state.stdout, left.join("\n"));
}

/// Removes whatever there is before the next attempt.
fn clear(runtime: &Runtime, id: &str) {
    let _ = runtime.call(&["delete", "--force", id]).ok();
}

fn bundles() -> [Bundle; 2] {
    [Bundle::new().idle(), Bundle::new().idle().user_namespace(200_000)]
}

#[test]
fn creates_are_whole_or_absent() {
    let Some(_) = Environment::get() else { return };
    for bundle in bundles() {
        let runtime = Runtime::new();
        runtime.prepare(&bundle);
        for who in [COMMAND, CHILD] {
            let before = || runtime.command_on("create", &bundle, &[]);
            sweep(&runtime, who, before, |what| assert_whole_or_absent(&runtime, bundle.id(), what));
            clear(&runtime, bundle.id());
        }
    }
}

/// Two containers with one `cgroupsPath`: the second is refused, and when its command is killed before that it has still
/// got nothing that removing it could take away from the first.
#[test]
fn a_group_that_is_another_containers_stays_its() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let path = serde_json::json!(format!("/{}/shared", runtime.parent_group()));
    let first = Bundle::new().idle().set("/linux/cgroupsPath", path.clone());
    let second = Bundle::new().idle().set("/linux/cgroupsPath", path);
    let container = runtime.start(&first);
    runtime.prepare(&second);
    let before = || runtime.command_on("create", &second, &[]);
    sweep(&runtime, COMMAND, before, |what| {
        clear(&runtime, second.id());
        assert_eq!(container.status(), "running", "{what}");
    });
}

#[test]
fn runs_are_whole_or_absent() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    runtime.prepare(&bundle);
    for who in [COMMAND, CHILD] {
        let before = || runtime.command_on("run", &bundle, &["--detach"]);
        sweep(&runtime, who, before, |what| assert_whole_or_absent(&runtime, bundle.id(), what));
        clear(&runtime, bundle.id());
    }
}

#[test]
fn runs_in_the_foreground_are_whole_or_absent() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new();
    runtime.prepare(&bundle);
    let before = || runtime.command_on("run", &bundle, &[]);
    sweep(&runtime, COMMAND, before, |what| assert_whole_or_absent(&runtime, bundle.id(), what));
}

#[test]
fn starts_leave_a_container_that_can_be_deleted() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    runtime.prepare(&bundle);
    let before = || {
        let _ = runtime.finish(runtime.command_on("create", &bundle, &[])).ok();
        runtime.command(&["start", bundle.id()])
    };
    sweep(&runtime, COMMAND, before, |what| {
        assert!(runtime.call(&["state", bundle.id()]).success(), "{what}: the container is gone");
        assert_whole_or_absent(&runtime, bundle.id(), what);
    });
    clear(&runtime, bundle.id());
}

#[test]
fn deletes_can_be_repeated() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    runtime.prepare(&bundle);
    let before = || {
        let _ = runtime.finish(runtime.command_on("run", &bundle, &["--detach"])).ok();
        runtime.command(&["delete", "--force", bundle.id()])
    };
    sweep(&runtime, COMMAND, before, |what| assert_whole_or_absent(&runtime, bundle.id(), what));
}

/// The container goes on as if nothing had happened, and the process of the exec is in it or gone.
#[test]
fn execs_leave_the_container_as_it_was() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let first = container.pid();
    for who in [COMMAND, CHILD] {
        let before = || runtime.command(&["exec", bundle.id(), "/bin/true"]);
        sweep(&runtime, who, before, |what| {
            eventually(10, "the end of the process of the exec", || {
                let pids = runtime.call(&["ps", "--format", "json", bundle.id()]).ok();
                serde_json::from_str::<Vec<i32>>(&pids.stdout).is_ok_and(|pids| pids == [first])
            });
            assert_eq!(container.status(), "running", "{what}");
        });
    }
    assert_eq!(container.exec(&["/bin/echo", "well"]).ok().stdout, "well\n");
    container.kill();
    container.delete();
}
