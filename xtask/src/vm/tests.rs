//! Which tests run in a machine, and the programs they are made of. They are the very ones that
//! `cargo test` runs here: the root disk has this host's C library, so nothing is built twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use vm_guest::{Guest, Plan, Suite};

use crate::shell;
use crate::vm::Options;

use Guest::{Plain, Systemd};

/// A package whose tests run in the machines.
struct Row {
    package: &'static str,
    /// One test target, or all of the package.
    target: Option<&'static str>,
    guests: &'static [Guest],
    /// Tests marked `#[ignore]` because they disturb a host run here too: this host is theirs.
    ignored: bool,
    /// Minutes rather than seconds.
    long: bool,
    /// Tests in it that take minutes by themselves.
    long_tests: &'static [&'static str],
    /// Without `--long`, only tests with one of these words in their names.
    short: &'static [&'static str],
}

const fn row(package: &'static str, guests: &'static [Guest]) -> Row {
    Row { package, target: None, guests, ignored: false, long: false, long_tests: &[], short: &[] }
}

/// The table. A package that is not in it has no business with the kernel.
const TABLE: &[Row] = &[
    row("sys", &[Plain]),
    Row { target: Some("seccomp"), ..row("seccomp", &[Plain]) },
    Row { target: Some("kernel"), ..row("seccomp", &[Plain]) },
    // Interprets filters in this process, with no kernel in it.
    Row { target: Some("filter"), long: true, ..row("seccomp", &[Plain]) },
    row("netlink", &[Plain]),
    row("firewall", &[Plain]),
    row("network", &[Plain]),
    // A thousand namespaces take minutes under emulation.
    Row { long_tests: &["a_full_bridge_is_a_clear_error"], ..row("dhow-net", &[Plain]) },
    row("cgroup", &[Plain, Systemd]),
    row("runtime", &[Plain]),
    Row { target: Some("store"), ..row("store", &[Plain]) },
    Row { target: Some("images"), ..row("store", &[Plain]) },
    Row { target: Some("hostile"), long: true, ..row("store", &[Plain]) },
    Row { target: Some("attacks"), long: true, ..row("store", &[Plain]) },
    row("shim", &[Plain]),
    Row {
        target: Some("attacks"),
        ignored: true,
        // Races that need many attempts or busy processors.
        long_tests: &[
            "the_program_starts_only_when_init_has_nothing_left_to_take",
            "a_link_swapped_in_for_proc_never_gets_the_mount",
            "children_foisted_on_the_shim_are_reaped_and_mean_nothing",
            "a_traced_stop_does_not_pass_for_the_end",
            "an_execs_traced_stop_does_not_pass_for_its_end_either",
            "floods_of_output_cost_the_shim_no_memory",
        ],
        ..row("dhow-shim", &[Plain])
    },
    Row { target: Some("launch"), ..row("dhow-shim", &[Plain, Systemd]) },
    Row { target: Some("limits"), ..row("dhow-shim", &[Plain, Systemd]) },
    row("engine", &[Plain]),
    Row { target: Some("alone"), ..row("e2e", &[Plain, Systemd]) },
    // A container each, and two hundred of them: a quarter of an hour under emulation. What depends most on the kernel.
    Row {
        target: Some("conformance"),
        short: &["cgroups::", "idmap::", "namespaces::", "time"],
        ..row("oci-tests", &[Plain])
    },
    Row { target: Some("proofs"), long: true, ..row("security", &[Plain]) },
];

/// Seconds for one test that hangs; emulation is ten times slower than the host, and the host may be busy.
const LIMIT: u64 = 240;

/// What `cargo test --no-run` made.
pub struct Built {
    suites: Vec<Test>,
    /// Programs whose paths are compiled into tests.
    programs: Vec<PathBuf>,
}

struct Test {
    package: String,
    target: String,
    directory: PathBuf,
    program: PathBuf,
}

impl Built {
    pub fn build() -> Result<Self> {
        // The whole workspace, as `cargo xtask test` builds it: a part would choose other features of
        // shared dependencies, and build those again.
        let mut cargo =
            shell::command("cargo", ["test", "--workspace", "--no-run", "--quiet", "--message-format=json"]);
        let text = shell::output(cargo.stderr(std::process::Stdio::inherit()))?;
        let mut built = Self { suites: Vec::new(), programs: Vec::new() };
        for line in text.lines() {
            let message: Value = serde_json::from_str(line).context("cargo printed something else than JSON")?;
            let Some(program) = message["executable"].as_str().map(PathBuf::from) else { continue };
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            if message["profile"]["test"] != true {
                built.programs.push(program);
                continue;
            }
            let manifest = PathBuf::from(word(&message["manifest_path"]));
            let directory = manifest.parent().context("a manifest lies in a directory")?.to_path_buf();
            let package = package_name(&word(&message["package_id"]));
            built.suites.push(Test { package, target: word(&message["target"]["name"]), directory, program });
        }
        for row in TABLE {
            if !built.suites.iter().any(|test| row.covers(test)) {
                bail!(
                    "{} has no tests {}: see the table in xtask/src/vm/tests.rs",
                    row.package,
                    row.target.unwrap_or("")
                );
            }
        }
        Ok(built)
    }

    /// The plan for one guest and the files it needs.
    pub fn plan(
        &self,
        guest: Guest,
        options: &Options,
        programs: &Path,
        fixtures: &Path,
    ) -> Result<(Plan, Vec<PathBuf>)> {
        let mut suites = Vec::new();
        let mut files: BTreeSet<PathBuf> = self.programs.iter().cloned().collect();
        for row in TABLE.iter().filter(|row| row.guests.contains(&guest) && (options.long || !row.long)) {
            for test in self.suites.iter().filter(|test| row.covers(test)) {
                let name = format!("{}/{}", test.package, test.target);
                // A word may name the suite or tests in it.
                let named = options.words.iter().any(|word| name.contains(word.as_str()));
                files.insert(test.program.clone());
                let left_out = if options.long { &[] } else { row.long_tests };
                let left_out = left_out.iter().map(|test| ((*test).to_owned(), "takes minutes: see --long".to_owned()));
                suites.push(Suite {
                    name,
                    program: test.program.clone(),
                    directory: test.directory.clone(),
                    limit: LIMIT,
                    ignored: row.ignored,
                    words: match (options.words.is_empty(), named) {
                        (true, _) if !options.long => row.short.iter().map(|word| (*word).to_owned()).collect(),
                        (true, _) | (false, true) => Vec::new(),
                        (false, false) => options.words.clone(),
                    },
                    left_out: left_out.collect(),
                });
            }
        }
        for entry in fs::read_dir(programs)? {
            files.insert(entry?.path());
        }
        files.insert(fixtures.join("busybox.tar"));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let environment = BTreeMap::from([
            ("DHOW_TEST_PROGRAMS".to_owned(), text(programs)),
            ("DHOW_TEST_FIXTURES".to_owned(), text(fixtures)),
            ("DHOW_TEST_LONG".to_owned(), if options.long { "1" } else { "0" }.to_owned()),
            ("DHOW_TEST_VM".to_owned(), guest.name().to_owned()),
            // The static one, as users get it.
            ("DHOW_SHIM_UNDER_TEST".to_owned(), text(&programs.join("dhow-shim"))),
            ("RUST_BACKTRACE".to_owned(), "0".to_owned()),
        ]);
        let mut directories = vec![shell::root()];
        if !shell::target().starts_with(shell::root()) {
            directories.push(shell::target());
        }
        Ok((Plan { directories, environment, suites }, files.into_iter().collect()))
    }
}

impl Row {
    fn covers(&self, test: &Test) -> bool {
        self.package == test.package && self.target.is_none_or(|target| target == test.target)
    }
}

/// `path+file:///src/bin/dhow-shim#0.1.0`, or `path+file:///src/tests/vm#vm-guest@0.1.0` where the
/// directory has another name (cargo help pkgid).
fn package_name(id: &str) -> String {
    let (path, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}
