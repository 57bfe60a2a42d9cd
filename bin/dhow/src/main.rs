//! The `dhow` command: see the `cli` crate, which is all of it.

fn main() -> std::process::ExitCode {
    cli::main()
}
