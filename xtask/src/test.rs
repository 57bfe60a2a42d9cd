//! `cargo xtask test`: installs what the tests need, builds the programs they drive, runs every test.

use anyhow::Result;

use crate::binaries::{self, Profile};
use crate::{check, fixtures, fuzz, peers, shell, three_tier, vm};

pub fn run(args: &[String]) -> Result<()> {
    let quick = args.iter().any(|arg| arg == "--quick");
    let filter: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();

    shell::require_root("test")?;
    shell::require_packages(&[
        ("nft", "nftables"),
        ("ip", "iproute2"),
        ("expect", "expect"),
        ("skopeo", "skopeo"),
        ("docker-registry", "docker-registry"),
        ("nginx", "nginx-light"),
        ("python3", "python3"),
        ("pip3", "python3-pip"),
        ("psql", "postgresql-client"),
        ("curl", "curl"),
        ("git", "git"),
        ("mkfs.ext4", "e2fsprogs"),
        ("ps", "procps"),
        ("strace", "strace"),
        ("openssl", "openssl"),
        ("xz", "xz-utils"),
        ("dbus-daemon", "dbus-daemon"),
        ("/usr/lib/python3/dist-packages/nftables/__init__.py", "python3-nftables"),
        ("/usr/lib/python3/dist-packages/dbus/service.py", "python3-dbus"),
        ("/usr/lib/python3/dist-packages/gi/__init__.py", "python3-gi"),
        ("/usr/include/seccomp.h", "libseccomp-dev"),
    ])?;
    let fixtures = fixtures::make()?;
    let go = fixtures::go()?;
    let go_classic = fixtures::go_classic()?;
    let moto = fixtures::moto()?;
    let firewalld = fixtures::firewalld()?;
    if !quick {
        check::run()?;
    }
    let programs = binaries::build(Profile::Dev)?;
    let guest = peers::Guest::arrive()?;
    let peers = peers::up()?;
    peers.install(&programs.join("dhow-oci"))?;
    three_tier::make(&peers)?;

    let mut cargo = shell::command("cargo", ["test", "--workspace", "--quiet", "--no-fail-fast"]);
    if !filter.is_empty() {
        cargo.arg("--").args(&filter);
    }
    cargo
        .env("DHOW_TEST_PROGRAMS", programs)
        .env("DHOW_TEST_FIXTURES", fixtures)
        .env("DHOW_TEST_GO", go)
        .env("DHOW_TEST_GO_CLASSIC", go_classic)
        .env("DHOW_TEST_MOTO", moto)
        .env("DHOW_TEST_FIREWALLD", firewalld)
        .env("DHOW_TEST_DOCKERD", peers.socket)
        .env("DHOW_TEST_DOCKER", peers.docker)
        .env("DHOW_TEST_PEERS", peers.home)
        .env("DHOW_TEST_LONG", if quick { "0" } else { "1" });
    let here = shell::run_tests(&mut cargo)?;
    // Layers are indexed where the kernel can: what is promised of them holds for unpacked ones too.
    let mut again = shell::command("cargo", ["test", "--quiet", "-p", "store"]);
    if !filter.is_empty() {
        again.arg("--").args(&filter);
    }
    let directories = shell::run_tests(again.env("DHOW_TEST_LAYERS", "directories"))?;
    let failures = here.failures + &directories.failures;
    let here = here.verdict.and(directories.verdict);
    // Machines have no use for them.
    drop(guest);
    if !filter.is_empty() {
        return here;
    }
    let here = here.and(fuzz::seeds_pass());
    if quick {
        return here;
    }
    // Both verdicts count, and a failure here is no reason not to know the other.
    let there = vm::run_with(&vm::Options::of_test());
    if !failures.is_empty() {
        eprintln!("the tests that failed outside the machines:\n{failures}");
    }
    here.and(there)
}
