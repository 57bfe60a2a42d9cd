//! Docker's default seccomp profile as `linux.seccomp` of a configuration: the rules of `seccomp`'s table that hold for
//! the default capabilities on this machine, as dockerd resolves them before it calls a runtime.

use seccomp::{Action, Op, Profile, Rule};
use serde_json::{Value, json};

use crate::CAPABILITIES;

/// The profile of a container with the default capabilities.
#[must_use]
pub fn docker_default() -> Value {
    let profile = Profile::docker_default();
    let syscalls: Vec<Value> = profile.syscalls.iter().filter(|rule| holds(rule)).map(document).collect();
    let architectures = match std::env::consts::ARCH {
        "aarch64" => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        _ => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    };
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": profile.default_errno_ret,
        "architectures": architectures,
        "syscalls": syscalls,
    })
}

/// Whether the rule is for us: all of the capabilities it includes, none of those it excludes. Every kernel that can
/// run the tests is newer than any the rules ask for.
fn holds(rule: &Rule) -> bool {
    let has = |cap: &str| CAPABILITIES.contains(&cap);
    let native = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    rule.includes.caps.iter().all(|cap| has(cap))
        && !rule.excludes.caps.iter().any(|cap| has(cap))
        && (rule.includes.arches.is_empty() || rule.includes.arches.iter().any(|arch| arch == native))
        && !rule.excludes.arches.iter().any(|arch| arch == native)
}

fn document(rule: &Rule) -> Value {
    let args: Vec<Value> = rule
        .args
        .iter()
        .map(|arg| json!({ "index": arg.index, "value": arg.value, "valueTwo": arg.value_two, "op": comparison(arg.op) }))
        .collect();
    let mut document = json!({ "names": rule.names, "action": action(rule.action) });
    if !args.is_empty() {
        document["args"] = Value::Array(args);
    }
    if let Some(errno) = rule.errno_ret {
        document["errnoRet"] = json!(errno);
    }
    document
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "SCMP_ACT_ALLOW",
        Action::Errno => "SCMP_ACT_ERRNO",
        Action::KillThread => "SCMP_ACT_KILL_THREAD",
        Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
        Action::Trap => "SCMP_ACT_TRAP",
        Action::Trace => "SCMP_ACT_TRACE",
        Action::Log => "SCMP_ACT_LOG",
        Action::Notify => "SCMP_ACT_NOTIFY",
    }
}

fn comparison(op: Op) -> &'static str {
    match op {
        Op::NotEqual => "SCMP_CMP_NE",
        Op::Less => "SCMP_CMP_LT",
        Op::LessOrEqual => "SCMP_CMP_LE",
        Op::Equal => "SCMP_CMP_EQ",
        Op::GreaterOrEqual => "SCMP_CMP_GE",
        Op::Greater => "SCMP_CMP_GT",
        Op::MaskedEqual => "SCMP_CMP_MASKED_EQ",
    }
}
