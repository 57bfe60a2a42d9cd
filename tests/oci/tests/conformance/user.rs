//! config.md "User": ids, further groups and the mask of new files.

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::json;

use crate::refused_for;

#[test]
fn ids_and_groups_are_taken_on() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle =
        Bundle::new().user(1001, 1002, &[5, 20, 4_000_000_000]).shell("grep -E '^(Uid|Gid|Groups)' /proc/self/status");
    let output = runtime.run(&bundle).ok();
    let fields = |name| output.after(name).map(|text| text.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    assert_eq!(fields("Uid:"), ["1001"; 4]);
    assert_eq!(fields("Gid:"), ["1002"; 4]);
    assert_eq!(fields("Groups:"), ["5", "20", "4000000000"]);
}

#[test]
fn no_groups_of_the_caller_come_along() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let output = runtime.run(&Bundle::new().shell("grep Groups /proc/self/status")).ok();
    assert_eq!(output.after("Groups:"), Some(""));
}

#[test]
fn the_mask_of_new_files_is_set() {
    let Some(_) = Environment::get() else { return };
    // The caller's own must not matter.
    let runtime = Runtime::new().wrapped(["sh", "-c", "umask 077; exec \"$0\" \"$@\""]);
    assert_eq!(runtime.run(&Bundle::new().shell("umask")).ok().stdout, "0022\n");
    let bundle = Bundle::new().set("/process/user/umask", json!(0o027)).shell("umask; touch /tmp/f; stat -c %a /tmp/f");
    assert_eq!(runtime.run(&bundle).ok().stdout, "0027\n640\n");
    let bundle = Bundle::new().set("/process/user/umask", json!(0)).shell("umask");
    assert_eq!(runtime.run(&bundle).ok().stdout, "0000\n");
    refused_for(runtime.run(&Bundle::new().set("/process/user/umask", json!(0o1000))), &["process.user.umask"]);
}

#[test]
fn a_user_has_no_more_rights_than_its_id() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().file("/secret", "hidden", 0o600).user(65534, 65534, &[]).args(&["/bin/cat", "/secret"]);
    let output = runtime.run(&bundle);
    assert!(!output.success() && !output.stdout.contains("hidden"), "{output}");
}

#[test]
fn ids_that_stand_for_none_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    refused_for(runtime.run(&Bundle::new().user(u32::MAX, 0, &[])), &["process.user.uid"]);
    refused_for(runtime.run(&Bundle::new().user(0, u32::MAX, &[])), &["process.user.gid"]);
    refused_for(runtime.run(&Bundle::new().user(0, 0, &[u32::MAX])), &["process.user.additionalGids"]);
    refused_for(runtime.run(&Bundle::new().set("/process/user/uid", json!(-1))), &["process.user.uid"]);
    refused_for(runtime.run(&Bundle::new().set("/process/user/uid", json!("root"))), &["process.user.uid"]);
}

/// The streams of a container belong to whoever runs in it, as runc has it: `/dev/stdout` can be opened anew.
#[test]
fn a_user_may_open_its_standard_streams_anew() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().user(65534, 65534, &[]).shell("echo again > /dev/stdout");
    runtime.prepare(&bundle);
    // A pipe, as engines give one.
    let script = "\"$@\" | cat";
    let mut words: Vec<String> = vec!["-c".to_owned(), script.to_owned(), "sh".to_owned()];
    let inner = runtime.command_on("run", &bundle, &[]);
    words.push(inner.get_program().to_string_lossy().into_owned());
    words.extend(inner.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    let mut command = std::process::Command::new("sh");
    command.args(words).stdin(std::process::Stdio::null());
    assert_eq!(runtime.finish(command).ok().stdout, "again\n");
}
