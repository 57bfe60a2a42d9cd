//! Profiles as JSON: Docker's dialect, the OCI object, and what must be refused.

use crate::support::{Call, interpret};
use seccomp::{Action, Arch, Context, Error, KernelVersion, Profile, compile};

fn context() -> Context {
    Context { caps: 0, arch: Arch::X86_64, kernel: KernelVersion { major: 5, minor: 10 } }
}

fn parse(json: &str) -> Profile {
    serde_json::from_str(json).unwrap()
}

fn ask(profile: &Profile, name: &str, arg: u64) -> u32 {
    let program = compile(profile, &context()).unwrap();
    let nr = seccomp::syscall::number(Arch::X86_64, name).unwrap();
    interpret(&program, &Call { audit: Arch::X86_64.audit(), nr, args: [arg; 6] }).0
}

#[test]
fn docker_dialect() {
    let profile = parse(
        r#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "comment": "ignored",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": null},
                        {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]}],
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": null},
                {"name": "open", "action": "SCMP_ACT_KILL"},
                {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 9, "valueTwo": 0, "op": "SCMP_CMP_NE"}]},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
                {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.11"}},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["umount2"], "action": "SCMP_ACT_LOG", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}}
            ]}"#,
    );
    assert_eq!(ask(&profile, "read", 0), 0x7fff_0000);
    assert_eq!(ask(&profile, "open", 0), 0);
    assert_eq!(ask(&profile, "kill", 8), 0x7fff_0000);
    assert_eq!(ask(&profile, "kill", 9), 0x5_0026);
    assert_eq!(ask(&profile, "ptrace", 0), 0x7fff_0000);
    assert_eq!(ask(&profile, "bpf", 0), 0x5_0026);
    assert_eq!(ask(&profile, "mount", 0), 0x5_0026);
    assert_eq!(ask(&profile, "umount2", 0), 0x7ffc_0000);
}

#[test]
fn oci_object() {
    let profile = parse(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "listenerPath": "/run/agent.sock", "listenerMetadata": "x",
            "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_NOTIFY"},
                         {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}"#,
    );
    assert_eq!(ask(&profile, "getcwd", 0), 0x7fc0_0000);
    assert_eq!(ask(&profile, "chmod", 0), 0x5_000d);
    assert_eq!(ask(&profile, "file_setattr", 0), 0x7fff_0000);
    assert!(profile.notifies());
    assert_eq!(profile.filter_flags(), Ok(seccomp::FLAG_LOG | seccomp::FLAG_SPEC_ALLOW | seccomp::FLAG_NEW_LISTENER));
    let program = compile(&profile, &context()).unwrap();
    let x32 = Call { audit: Arch::X86_64.audit(), nr: 0x4000_0000, args: [0; 6] };
    assert_eq!(interpret(&program, &x32).0, 0x8000_0000, "x32 is not covered");
}

#[test]
fn off_is_no_program() {
    for json in ["{}", r#"{"defaultAction": ""}"#, r#"{"defaultAction": null, "syscalls": null}"#] {
        let profile = parse(json);
        assert!(profile.is_off());
        assert_eq!(compile(&profile, &context()), Ok(Vec::new()));
    }
}

#[test]
fn wrong_documents_are_named() {
    let refused = |json: &str| compile(&parse(json), &context()).unwrap_err();
    let rules = |rule: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rule}]}}"#);
    assert_eq!(refused(r#"{"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#), Error::NoDefaultAction);
    assert_eq!(
        refused(&rules(r#"{"name": "read", "names": ["write"], "action": "SCMP_ACT_ALLOW"}"#)),
        Error::NameAndNames { rule: 0 }
    );
    assert_eq!(refused(&rules(r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#)), Error::NoNames { rule: 0 });
    assert_eq!(
        refused(&rules(
            r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}"#
        )),
        Error::ArgumentIndex { rule: 0, index: 6 }
    );
    assert_eq!(
        refused(&rules(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70000}"#)),
        Error::Errno(70000)
    );
    assert_eq!(
        refused(r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_VAX"]}"#),
        Error::UnknownArchitecture("SCMP_ARCH_VAX".into())
    );
    assert_eq!(
        refused(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#
        ),
        Error::ArchitecturesAndArchMap
    );
    for json in [
        r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#,
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8.1"}}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": -1, "op": "SCMP_CMP_EQ"}]}]}"#,
    ] {
        assert!(serde_json::from_str::<Profile>(json).is_err(), "{json}");
    }
}

#[test]
fn oversized_profiles_are_refused_not_built() {
    let mut profile = parse(r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#);
    let rule = parse(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 5, "valueTwo": 5, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#,
    )
    .syscalls
    .remove(0);
    profile.syscalls = vec![rule.clone(); 1_000_000];
    assert!(matches!(compile(&profile, &context()), Err(Error::TooLarge { .. })));
    profile.syscalls.truncate(4000);
    assert!(matches!(compile(&profile, &context()), Err(Error::TooLarge { .. })));
    profile.syscalls.truncate(600);
    assert!(compile(&profile, &context()).is_ok(), "far jumps are bridged");
    assert_eq!(profile.default_action, Some(Action::Errno));
}

#[test]
fn kernel_versions() {
    let version = |major, minor| Some(KernelVersion { major, minor });
    assert_eq!(KernelVersion::parse("6.18.44-fc-v595"), version(6, 18));
    assert_eq!(KernelVersion::parse("4.8"), version(4, 8));
    assert_eq!(KernelVersion::parse("5.10-rc1"), version(5, 10));
    assert_eq!(KernelVersion::parse("6"), None);
    assert_eq!(KernelVersion::parse("six.one"), None);
    assert_eq!(KernelVersion::parse("6."), None);
    assert_eq!(KernelVersion::parse("+6.1"), None);
}
