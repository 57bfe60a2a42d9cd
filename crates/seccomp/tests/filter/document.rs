//! Profiles as JSON: Docker's dialect, the OCI object, and what must be refused, by position.

use crate::machine::{Call, Program};
use crate::profiles::context;
use seccomp::{Action, Arch, Context, Error, KernelVersion, Profile, check, compile, known};

fn old_kernel() -> Context {
    Context { kernel: KernelVersion { major: 5, minor: 10 }, ..context(Arch::X86_64, 0) }
}

fn parse(json: &str) -> Profile {
    serde_json::from_str(json).unwrap()
}

fn answer(profile: &Profile, call: Call) -> u32 {
    Program::new(&compile(profile, &old_kernel()).unwrap(), Arch::X86_64).answer(&call)
}

fn ask(profile: &Profile, arch: Arch, name: &str, args: [u64; 6]) -> u32 {
    let nr = seccomp::syscall::number(arch, name).unwrap();
    answer(profile, Call { audit: arch.audit(), nr, args })
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
                {"name": "", "names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 9, "valueTwo": 0, "op": "SCMP_CMP_NE"}]},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
                {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.11"}},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["umount2"], "action": "SCMP_ACT_LOG", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}}
            ]}"#,
    );
    let ask = |name, arg| ask(&profile, Arch::X86_64, name, [arg; 6]);
    assert_eq!(ask("read", 0), 0x7fff_0000);
    assert_eq!(ask("open", 0), 0);
    assert_eq!(ask("kill", 8), 0x7fff_0000);
    assert_eq!(ask("kill", 9), 0x5_0026);
    assert_eq!(ask("ptrace", 0), 0x7fff_0000);
    assert_eq!(ask("bpf", 0), 0x5_0026);
    assert_eq!(ask("mount", 0), 0x5_0026);
    assert_eq!(ask("umount2", 0), 0x7ffc_0000);
}

#[test]
fn oci_object() {
    let profile = parse(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_MIPS"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
            "listenerPath": "/run/agent.sock", "listenerMetadata": "x",
            "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_NOTIFY"},
                         {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
                         {"names": ["chown"], "action": "SCMP_ACT_TRACE", "errnoRet": 65535}]}"#,
    );
    let ask = |name| ask(&profile, Arch::X86_64, name, [0; 6]);
    assert_eq!(ask("getcwd"), 0x7fc0_0000);
    assert_eq!(ask("chmod"), 0x5_000d);
    assert_eq!(ask("chown"), 0x7ff0_ffff);
    assert_eq!(ask("file_setattr"), 0x7fff_0000);
    assert_eq!(profile.listener_path.as_deref(), Some("/run/agent.sock"));
    assert_eq!(profile.listener_metadata.as_deref(), Some("x"));
    assert!(profile.notifies());
    assert_eq!(profile.filter_flags(), Ok(seccomp::FLAG_LOG | seccomp::FLAG_SPEC_ALLOW | seccomp::FLAG_NEW_LISTENER));
    let x32 = |nr| answer(&profile, Call { audit: Arch::X86_64.audit(), nr, args: [0; 6] });
    assert_eq!(x32(0x4000_0000), 0x8000_0000, "x32 is not covered");
    assert_eq!(x32(u32::MAX), 0x7fff_0000, "what a tracer skips a call by is no x32 call");
}

#[test]
fn flags() {
    let flags = |json: &str| parse(json).filter_flags();
    let notify = r#""listenerPath": "/a", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]"#;
    let spec_allow = seccomp::FLAG_SPEC_ALLOW;
    assert_eq!(flags(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#), Ok(spec_allow));
    assert_eq!(flags(r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": null}"#), Ok(spec_allow));
    assert_eq!(flags(r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": []}"#), Ok(0), "none was asked for");
    assert_eq!(
        flags(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], {notify}}}"#
        )),
        Ok(seccomp::FLAG_NEW_LISTENER | seccomp::FLAG_WAIT_KILLABLE_RECV)
    );
    assert_eq!(
        flags(r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#),
        Err(Error::FlagWithoutNotify { at: "flags[0]".into() })
    );
    for flag in known::FLAGS {
        let json = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["{flag}"], {notify}}}"#);
        assert_eq!(check(&parse(&json)), Ok(()), "{flag}");
    }
}

#[test]
fn known_words_are_accepted_and_no_others() {
    for action in known::ACTIONS {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a",
                 "syscalls": [{{"names": ["read"], "action": "{action}"}}]}}"#
        );
        assert_eq!(check(&parse(&json)), Ok(()), "{action}");
        assert!(serde_json::from_str::<Profile>(&json.replace(action, &format!("{action}S"))).is_err());
    }
    for op in known::OPERATORS {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_LOG",
                 "args": [{{"index": 0, "value": 1, "valueTwo": 1, "op": "{op}"}}]}}]}}"#
        );
        assert_eq!(check(&parse(&json)), Ok(()), "{op}");
        assert!(serde_json::from_str::<Profile>(&json.replace(op, "SCMP_CMP_XX")).is_err());
    }
    for arch in known::architectures() {
        let json = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["{arch}"]}}"#);
        assert_eq!(check(&parse(&json)), Ok(()), "{arch}");
    }
    let kill = |word: &str| parse(&format!(r#"{{"defaultAction": "{word}"}}"#)).default_action;
    assert_eq!(kill("SCMP_ACT_KILL"), Some(Action::KillThread));
    assert_eq!(kill("SCMP_ACT_KILL"), kill("SCMP_ACT_KILL_THREAD"));
}

#[test]
fn off_is_no_program() {
    for json in ["{}", r#"{"defaultAction": ""}"#, r#"{"defaultAction": null, "syscalls": null}"#] {
        let profile = parse(json);
        assert!(profile.is_off());
        assert_eq!(check(&profile), Ok(()));
        assert_eq!(compile(&profile, &old_kernel()), Ok(Vec::new()));
    }
}

#[test]
fn wrong_documents_are_named_by_position() {
    let refused = |json: &str| {
        let profile = parse(json);
        let error = check(&profile).unwrap_err();
        assert_eq!(compile(&profile, &old_kernel()), Err(error.clone()), "compiling checks first");
        error
    };
    let rules = |rules: &str| refused(&format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rules}]}}"#));
    let good = r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#;
    let at = |text: &str| text.to_owned();
    assert_eq!(refused(&format!(r#"{{"syscalls": [{good}]}}"#)), Error::NoDefaultAction);
    assert_eq!(
        rules(r#"{"name": "read", "names": ["write"], "action": "SCMP_ACT_ALLOW"}"#),
        Error::NameAndNames { at: at("syscalls[0]") }
    );
    assert_eq!(
        rules(&format!(r#"{good}, {{"names": [], "action": "SCMP_ACT_ALLOW"}}"#)),
        Error::NoNames { at: at("syscalls[1]") }
    );
    assert_eq!(
        rules(r#"{"names": ["read", ""], "action": "SCMP_ACT_ALLOW"}"#),
        Error::EmptyName { at: at("syscalls[0].names[1]") }
    );
    assert_eq!(
        rules(&format!(
            r#"{good}, {good}, {good}, {{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
                {{"index": 5, "value": 1, "op": "SCMP_CMP_EQ"}}, {{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}}]}}"#
        )),
        Error::ArgumentIndex { at: at("syscalls[3].args[1].index"), index: 6 }
    );
    assert_eq!(
        rules(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#),
        Error::Errno { at: at("syscalls[0].errnoRet"), value: 4096 }
    );
    assert_eq!(
        rules(r#"{"names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536}"#),
        Error::TraceMessage { at: at("syscalls[0].errnoRet"), value: 65536 }
    );
    assert_eq!(
        refused(r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}"#),
        Error::Errno { at: at("defaultErrnoRet"), value: 70000 }
    );
    assert_eq!(
        refused(r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_VAX"]}"#),
        Error::UnknownArchitecture { at: at("architectures[1]"), name: at("SCMP_ARCH_VAX") }
    );
    assert_eq!(
        refused(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [
                {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390", "s390"]}]}"#
        ),
        Error::UnknownArchitecture { at: at("archMap[0].subArchitectures[1]"), name: at("s390") }
    );
    assert_eq!(
        refused(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#
        ),
        Error::ArchitecturesAndArchMap
    );
    assert_eq!(
        refused(r#"{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG", "LOG"]}"#),
        Error::UnknownFlag { at: at("flags[1]"), name: at("LOG") }
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
fn what_a_listener_needs() {
    let profile = |default: &str, rest: &str, names: &str| {
        check(&parse(&format!(
            r#"{{"defaultAction": "{default}", {rest}
                 "syscalls": [{{"names": [{names}], "action": "SCMP_ACT_NOTIFY"}}]}}"#
        )))
    };
    let path = r#""listenerPath": "/run/agent.sock","#;
    assert_eq!(profile("SCMP_ACT_ALLOW", path, r#""read", "close""#), Ok(()));
    assert_eq!(
        profile("SCMP_ACT_ALLOW", path, r#""read", "write""#),
        Err(Error::NotifyWrite { at: "syscalls[0].names[1]".into() })
    );
    assert_eq!(profile("SCMP_ACT_NOTIFY", path, r#""read""#), Err(Error::NotifyByDefault));
    assert_eq!(
        profile("SCMP_ACT_ALLOW", r#""listenerPath": "","#, r#""read""#),
        Err(Error::NoListener { at: "syscalls[0].action".into() })
    );
    assert_eq!(
        check(&parse(r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}"#)),
        Err(Error::MetadataWithoutListener)
    );
    let text = Error::NotifyWrite { at: "syscalls[0].names[1]".into() }.to_string();
    assert!(text.contains("syscalls[0].names[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall"), "{text}");
}

/// Sockets and System V IPC have a second door on x86.
#[test]
fn multiplexed_calls_are_meant_too() {
    let deny = parse(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]},
            {"names": ["shmat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2}]}"#,
    );
    let allow = 0x7fff_0000;
    // What family is meant lies behind a pointer, so that all are refused.
    assert_eq!(ask(&deny, Arch::X86, "socketcall", [1, 0xffff_d000, 0, 0, 0, 0]), 0x5_0001);
    assert_eq!(ask(&deny, Arch::X86, "socketcall", [2, 0xffff_d000, 0, 0, 0, 0]), allow);
    assert_eq!(ask(&deny, Arch::X86, "ipc", [21, 0, 0, 0, 0, 0]), 0x5_0002);
    assert_eq!(ask(&deny, Arch::X86, "ipc", [22, 0, 0, 0, 0, 0]), allow);
    assert_eq!(ask(&deny, Arch::X86, "socket", [38, 0, 0, 0, 0, 0]), 0x5_0001);
    // int 0x80 from 64-bit code: the call looks at the lower half alone.
    assert_eq!(ask(&deny, Arch::X86, "socket", [38 | 1 << 32, 0, 0, 0, 0, 0]), 0x5_0001);
    assert_eq!(ask(&deny, Arch::X86_64, "socket", [38, 0, 0, 0, 0, 0]), 0x5_0001);
    assert_eq!(ask(&deny, Arch::X86_64, "socket", [38 | 1 << 32, 0, 0, 0, 0, 0]), allow, "as libseccomp has it");
}

/// A rule that allows much must not go before one that forbids a part of it, wherever they stand.
#[test]
fn the_narrower_rule_is_tried_first() {
    for order in [[0, 1], [1, 0]] {
        let rules = [
            r#"{"names": ["ioctl"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "value": 100000, "op": "SCMP_CMP_LE"}]}"#,
            r#"{"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 21522, "op": "SCMP_CMP_EQ"}]}"#,
        ];
        let [first, second] = order.map(|n| rules[n]);
        let profile = parse(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{first}, {second}]}}"#));
        assert_eq!(ask(&profile, Arch::X86_64, "ioctl", [0, 21522, 0, 0, 0, 0]), 0x5_0001, "{order:?}");
        assert_eq!(ask(&profile, Arch::X86_64, "ioctl", [0, 21523, 0, 0, 0, 0]), 0x7ffc_0000);
    }
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
