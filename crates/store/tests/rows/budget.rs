//! A process of its own for a table, with bounds that the kernel keeps: a row that takes more memory, time or disk than
//! it should is killed or refused, and the table fails.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Names the table a process is for.
const TABLE: &str = "DHOW_TEST_TABLE";

/// What a table may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes of address space: what is mapped, whether used or not.
    pub memory: u64,
    /// Seconds of processor time, far more than is needed: a row that goes on for ever is to end.
    pub seconds: u64,
    /// Bytes of one file.
    pub file: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { memory: 1 << 30, seconds: 300, file: 64 << 20 }
    }
}

/// Runs `table`, the test called `name`, in a process of its own.
pub fn within(name: &str, budget: Budget, table: impl FnOnce()) {
    if std::env::var_os(TABLE).is_some_and(|value| value == name) {
        for (resource, bound) in
            [(Resource::As, budget.memory), (Resource::Cpu, budget.seconds), (Resource::Fsize, budget.file)]
        {
            let limit = Rlimit { current: Some(bound), maximum: getrlimit(resource).maximum };
            setrlimit(resource, limit).unwrap();
        }
        return table();
    }
    // A table that is killed leaves its directories behind: here, so that they go all the same.
    let place = tempfile::Builder::new().prefix("dhow-table-").tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(TABLE, name)
        .env("TMPDIR", place.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.signal(), None, "{name} was killed for what it took:\n{said}");
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "no test is called {name}:\n{said}");
}
