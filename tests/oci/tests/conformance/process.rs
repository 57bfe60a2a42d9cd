//! config.md "Process": arguments, environment, working directory, privileges and the score of the OOM killer.

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::json;

use crate::refused_for;

#[test]
fn arguments_arrive_as_they_are() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().args(&["/bin/printf", "[%s]", "a b", "", "$HOME", "ü\n", "--", "'\""]);
    assert_eq!(runtime.run(&bundle).ok().stdout, "[a b][][$HOME][ü\n][--]['\"]");
}

#[test]
fn the_environment_is_the_configurations() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().args(&["/bin/env"]).env("A=1").env("EMPTY=").env("A=2").env("WITH=x=y z");
    let mut command = {
        runtime.prepare(&bundle);
        runtime.command_on("run", &bundle, &[])
    };
    command.env("OF_THE_CALLER", "1");
    let output = runtime.finish(command).ok();
    let has = |line: &str| output.stdout.lines().any(|there| there == line);
    assert!(has("EMPTY=") && has("WITH=x=y z") && has("A=2"), "{output}");
    assert!(!output.stdout.contains("OF_THE_CALLER"), "the caller's environment came along: {output}");
    assert!(output.stdout.contains("PATH="), "{output}");
}

/// As runc and crun have it: a program without a home directory gets its user's.
#[test]
fn home_comes_from_the_containers_passwd() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:7:7::/srv/web:/bin/sh\n";
    let home = |uid| {
        let bundle = Bundle::new().file("/etc/passwd", passwd, 0o644).user(uid, uid, &[]).shell("echo $HOME");
        runtime.run(&bundle).ok().stdout.trim().to_owned()
    };
    assert_eq!((home(0).as_str(), home(7).as_str(), home(8).as_str()), ("/root", "/srv/web", "/"));
    let bundle = Bundle::new().env("HOME=/given").shell("echo $HOME");
    assert_eq!(runtime.run(&bundle).ok().stdout, "/given\n");
}

#[test]
fn the_program_is_found_by_the_containers_path() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let script = "#!/bin/sh\necho found\n";
    let bundle = Bundle::new()
        .file("/opt/tools/thing", script, 0o755)
        .set("/process/env", json!(["PATH=/nowhere:/opt/tools:/bin"]))
        .args(&["thing"]);
    assert_eq!(runtime.run(&bundle).ok().stdout, "found\n");
    // What is not executable is not found, as execvp(3) has it.
    let bundle = Bundle::new()
        .file("/opt/first/thing", "x", 0o644)
        .file("/opt/tools/thing", script, 0o755)
        .set("/process/env", json!(["PATH=/opt/first:/opt/tools:/bin"]))
        .args(&["thing"]);
    assert_eq!(runtime.run(&bundle).ok().stdout, "found\n");
}

#[test]
fn the_working_directory_is_the_containers() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new()
        .directory("/srv/data")
        .cwd("/srv/data")
        .shell("pwd; ls -di . /srv/data | cut -d' ' -f1 | sort -u | wc -l");
    assert_eq!(runtime.run(&bundle).ok().stdout, "/srv/data\n1\n");
    refused_for(runtime.run(&Bundle::new().cwd("srv")), &["process.cwd"]);
}

/// As runc has it; images name working directories that are not in them.
#[test]
fn a_working_directory_that_is_not_there_is_made() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().cwd("/made/for/you").args(&["/bin/pwd"]);
    assert_eq!(runtime.run(&bundle).ok().stdout, "/made/for/you\n");
}

#[test]
fn no_new_privileges_is_set_and_left_out() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for (asked, expected) in [(true, "1"), (false, "0")] {
        let bundle = Bundle::new().without_seccomp().set("/process/noNewPrivileges", json!(asked)).args(&[
            "/bin/grep",
            "NoNewPrivs",
            "/proc/self/status",
        ]);
        assert_eq!(runtime.run(&bundle).ok().after("NoNewPrivs:"), Some(expected));
    }
}

#[test]
fn the_score_of_the_oom_killer_is_set() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().set("/process/oomScoreAdj", json!(321)).args(&["/bin/cat", "/proc/self/oom_score_adj"]);
    assert_eq!(runtime.run(&bundle).ok().stdout.trim(), "321");
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").expect("one's own score");
    let bundle = Bundle::new().remove("/process/oomScoreAdj").args(&["/bin/cat", "/proc/self/oom_score_adj"]);
    assert_eq!(runtime.run(&bundle).ok().stdout.trim(), own.trim(), "left out, it is the caller's");
    refused_for(runtime.run(&Bundle::new().set("/process/oomScoreAdj", json!(1001))), &["process.oomScoreAdj"]);
}

#[test]
fn standard_streams_are_the_callers() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("cat; echo complaint >&2");
    runtime.prepare(&bundle);
    let input = bundle.dir().join("input");
    std::fs::write(&input, "given\n").expect("a file");
    let mut command = runtime.command_on("run", &bundle, &[]);
    command.stdin(std::fs::File::open(&input).expect("the file"));
    let output = runtime.finish(command).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("given\n", "complaint\n"));
}

/// A signal mask or ignored signals of the caller would change how the program behaves.
#[test]
fn signals_begin_as_usual() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new().wrapped(["sh", "-c", "trap '' HUP PIPE TERM; exec \"$0\" \"$@\""]);
    let bundle = Bundle::new().args(&["/bin/grep", "Sig[BIC]", "/proc/self/status"]);
    let output = runtime.run(&bundle).ok();
    assert_eq!(output.after("SigBlk:"), Some("0000000000000000"), "{output}");
}

#[test]
fn labels_of_absent_security_modules_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    if !std::path::Path::new("/sys/kernel/security/apparmor").exists()
        && std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
    {
        eprintln!("left out: whether this host has AppArmor cannot be told");
        return;
    }
    let apparmor =
        std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    if apparmor {
        eprintln!("left out: this host has AppArmor");
        return;
    }
    let _ = runtime.run(&Bundle::new().set("/process/apparmorProfile", json!("nosuch"))).refused();
}
