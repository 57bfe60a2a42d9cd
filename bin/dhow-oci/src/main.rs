//! The OCI runtime on the command line, with runc's commands and flags.

use std::process::ExitCode;

fn main() -> ExitCode {
    oci_runtime::main()
}
