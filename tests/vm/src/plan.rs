//! The plan for one boot, handed over as JSON in the second disk. Its paths are the host's own: test
//! programs carry paths of their build in them, so the guest shows the directories at the same places.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the second disk is mounted in the guest.
pub const PAYLOAD: &str = "/payload";
/// The plan within the guest.
pub const PLAN: &str = "/payload/plan.json";
/// The program of this package within the guest.
pub const PROGRAM: &str = "/payload/vm-guest";
/// The serial line that carries the report and nothing else; the kernel talks on the first one.
pub const REPORT_DEVICE: &str = "/dev/ttyS1";
/// How the last line of a report begins: `VM-RESULT: 7 passed, 0 failed, 1 left out`.
pub const RESULT: &str = "VM-RESULT:";

/// What is process 1 in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guest {
    /// Our own program and nothing else: no systemd, no D-Bus.
    Plain,
    /// systemd with its bus, logind and a lingering user.
    Systemd,
}

impl Guest {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Systemd];

    /// The value of `dhow.guest=` on the kernel's command line and of `DHOW_TEST_VM`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Systemd => "systemd",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Absolute directories of the host which the payload holds and the guest shows at the same place.
    pub directories: Vec<PathBuf>,
    /// Added to the environment of every test.
    pub environment: BTreeMap<String, String>,
    pub suites: Vec<Suite>,
}

/// One test executable of Rust's test harness.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Suite {
    /// `package/target`, for the report.
    pub name: String,
    pub program: PathBuf,
    /// The working directory: the package's own, as under cargo.
    pub directory: PathBuf,
    /// Seconds that one test may take.
    pub limit: u64,
    /// Run the tests marked `#[ignore]` too.
    pub ignored: bool,
    /// Only tests whose names contain one of these words; all when there is none.
    pub words: Vec<String>,
    /// Tests that make no sense in this machine, with the reason.
    pub left_out: BTreeMap<String, String>,
}
