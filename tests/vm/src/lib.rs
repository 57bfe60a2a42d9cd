//! What the host and its virtual machines agree on: the plan of what to run, where the guest finds
//! things, and the line that ends every report. `cargo xtask vm-test` writes plans, the program of
//! this package carries them out.

pub mod plan;

pub use plan::{Guest, PAYLOAD, PLAN, PROGRAM, Plan, REPORT_DEVICE, RESULT, Suite};
