//! A26: parts of the kernel that containers have no business with, reached by system calls of every width
//! (CVE-2022-0185, CVE-2026-31431, CVE-2026-43284, CVE-2026-43500). What the filter must stop, it stops in 64-bit, 32-bit
//! and x32 calls alike. One way it cannot stop: `socketcall` of i386 has the family behind a pointer, which no filter can
//! follow. The default profile allows it as Docker's does, since C libraries of i386 open every socket by it; what it
//! opens, a security module of the host has to deny, or a profile without the call.

use std::collections::BTreeMap;

use oci_tests::{Bundle, Canary, Environment, Output, Runtime};
use security::{Attack, Bits};

/// EPERM, ENOSYS, EAFNOSUPPORT (errno(3)).
const EPERM: i32 = -1;
const ENOSYS: i32 = -38;
const EAFNOSUPPORT: i32 = -97;

/// AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, and AF_PACKET with CAP_NET_RAW (linux/socket.h).
const WANTED: [u32; 5] = [1, 2, 10, 16, 17];
/// AF_KEY, AF_RXRPC, AF_ALG, AF_VSOCK.
const DENIED: [u32; 4] = [15, 33, 38, 40];

/// Widths there are attacks in: x86-64 alone runs programs of another.
fn widths() -> &'static [Bits] {
    if cfg!(target_arch = "x86_64") { &[Bits::B64, Bits::B32] } else { &[] }
}

fn runs(name: &str, bits: Bits) -> [Output; 2] {
    let runtime = Runtime::new();
    let bundle = Attack::build_bare(name, bits).into_bundle(Bundle::new(), "/attack").args(&["/attack"]);
    let run = runtime.run(&bundle).ok();
    let bundle = bundle.idle();
    let container = runtime.start(&bundle);
    let exec = container.exec(&["/attack"]).ok();
    [run, exec]
}

/// "NAME... RESULT" by name.
fn results(output: &Output) -> BTreeMap<&str, i32> {
    let pair = |line| str::rsplit_once(line, ' ').and_then(|(name, result)| Some((name, result.parse().ok()?)));
    output.stdout.lines().filter_map(pair).collect()
}

#[test]
fn socket_families_are_few() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    for bits in widths() {
        for output in runs("families", *bits) {
            let results = results(&output);
            let hows: &[&str] = if *bits == Bits::B32 { &["socket"] } else { &["socket", "x32", "high"] };
            for how in hows {
                let result = |family: u32| *results.get(&*format!("{family} {how}")).expect("a result");
                for family in DENIED {
                    let met = result(family);
                    assert!(
                        [EPERM, ENOSYS, EAFNOSUPPORT].contains(&met),
                        "{bits:?} {how} {family} met {met}: {output}"
                    );
                }
                // The x32 way exists in few kernels, and the high bit is none a program sets.
                if *how == "socket" {
                    for family in WANTED {
                        assert_eq!(result(family), 0, "{bits:?} {how} {family}: {output}");
                    }
                }
                let open: Vec<u32> = (0..46).filter(|family| result(*family) == 0).collect();
                eprintln!("{bits:?} {how}: families {open:?} can be opened");
            }
        }
    }
}

/// Programs of i386 that know no other way to a socket work with the default profile.
#[test]
fn sockets_of_old_programs_open() {
    let Some(_) = Environment::get() else { return };
    if !widths().contains(&Bits::B32) {
        return;
    }
    for output in runs("families", Bits::B32) {
        let results = results(&output);
        for family in WANTED {
            assert_eq!(results.get(&*format!("{family} socketcall")), Some(&0), "{family}: {output}");
        }
        let open = DENIED.iter().filter(|family| results.get(&*format!("{family} socketcall")) == Some(&0));
        eprintln!("socketcall opens {:?} of the denied families", open.collect::<Vec<_>>());
    }
}

/// Whoever runs no such programs closes that way: with a profile that leaves the call out, or the architecture.
#[test]
fn profiles_without_socketcall_leave_no_way_to_a_family() {
    let Some(_) = Environment::get() else { return };
    if !widths().contains(&Bits::B32) {
        return;
    }
    let runtime = Runtime::new();
    let attack =
        |bundle: Bundle| Attack::build_bare("families", Bits::B32).into_bundle(bundle, "/attack").args(&["/attack"]);
    let mut without = Bundle::new();
    for rule in without.config["linux"]["seccomp"]["syscalls"].as_array_mut().expect("rules") {
        rule["names"].as_array_mut().expect("names").retain(|name| name != "socketcall");
    }
    let without = without.push(
        "/linux/seccomp/syscalls",
        serde_json::json!({ "names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }),
    );
    let output = runtime.run(&attack(without)).ok();
    let found = results(&output);
    for family in 0..46 {
        let met = *found.get(&*format!("{family} socketcall")).expect("a result");
        assert!([EPERM, ENOSYS].contains(&met), "socketcall {family} met {met}: {output}");
    }
    for family in WANTED {
        assert_eq!(found.get(&*format!("{family} socket")), Some(&0), "{family}: {output}");
    }
    // A filter for 64 bits alone lets nothing of 32 bits run.
    let narrow = Bundle::new().set("/linux/seccomp/architectures", serde_json::json!(["SCMP_ARCH_X86_64"]));
    let output = runtime.run(&attack(narrow));
    assert!(!output.success() && output.stdout.is_empty(), "{output}");
}

/// The families the filter stops are there to be stopped: without it one of them opens on most hosts.
#[test]
fn a_filter_is_what_stops_families() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    if widths().is_empty() {
        return;
    }
    let bundle = Attack::build_bare("families", Bits::B64).into_bundle(Bundle::new(), "/attack").args(&["/attack"]);
    let open = |output: &Output| {
        let results = results(output);
        DENIED.iter().filter(|family| results.get(&*format!("{family} socket")) == Some(&0)).count()
    };
    let with = open(&runtime.run(&bundle).ok());
    let without = open(&runtime.run(&bundle.without_seccomp()).ok());
    eprintln!("{without} of the denied families open without a filter");
    assert_eq!(with, 0);
}

/// Calls that must fail, whatever they are asked; `clone3` must look as if it were not there, so that programs fall
/// back to `clone`, whose flags the filter can see.
#[test]
fn dangerous_calls_are_denied() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    for bits in widths() {
        for output in runs("calls", *bits) {
            let results = results(&output);
            assert!(results.len() > 35, "{output}");
            for (name, result) in &results {
                let expected = if *name == "clone3-user" { ENOSYS } else { EPERM };
                assert_eq!(*result, expected, "{bits:?} {name}: {output}");
            }
        }
    }
}

/// Root in the container is not needed to ask; a user without capabilities gets the same answers.
#[test]
fn users_are_denied_the_same_calls() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for bits in widths() {
        let bundle = Attack::build_bare("calls", *bits).into_bundle(Bundle::new(), "/attack").args(&["/attack"]);
        for bundle in [bundle.user(1000, 1000, &[])] {
            let output = runtime.run(&bundle).ok();
            for (name, result) in results(&output) {
                let expected = if name == "clone3-user" { ENOSYS } else { EPERM };
                assert_eq!(result, expected, "{bits:?} {name}: {output}");
            }
        }
    }
}
