//! Programs of attackers. They are linked statically, so that they run in a container whatever its image holds; those
//! that come in 32 bits use no C library, so that none has to be there for 32 bits.

use std::path::{Path, PathBuf};
use std::process::Command;

use oci_tests::Bundle;
use tempfile::TempDir;

/// The width of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// i386, on x86-64 only.
    B32,
    /// The machine's own.
    B64,
}

/// A built program; it goes with this.
#[derive(Debug)]
pub struct Attack {
    _dir: TempDir,
    path: PathBuf,
}

impl Attack {
    /// Builds `attacks/NAME.c` against the C library.
    ///
    /// # Panics
    /// When there is no compiler, or with what it says.
    #[must_use]
    pub fn build(name: &str) -> Self {
        Self::compile(name, &["-pthread"])
    }

    /// Builds `attacks/NAME.c` without a C library.
    ///
    /// # Panics
    /// As [`Attack::build`].
    #[must_use]
    pub fn build_bare(name: &str, bits: Bits) -> Self {
        let width = if bits == Bits::B32 { "-m32" } else { "-m64" };
        let bare = ["-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie"];
        // The kernel's headers are the same for both widths, but lie where the compiler looks for one of them only.
        let headers = "-I/usr/include/x86_64-linux-gnu";
        let flags: Vec<&str> = bare.iter().copied().chain([width, headers]).collect();
        Self::compile(name, &flags)
    }

    fn compile(name: &str, flags: &[&str]) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks").join(format!("{name}.c"));
        let dir = tempfile::Builder::new().prefix("attack-").tempdir().expect("a directory for the program");
        let path = dir.path().join(name);
        let mut gcc = Command::new("gcc");
        gcc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-O1", "-static"]);
        gcc.args(flags).arg("-o").arg(&path).arg(&source);
        let output = gcc.output().expect("gcc, which Debian's packages gcc and libc6-dev bring");
        assert!(output.status.success(), "{gcc:?}:\n{}", String::from_utf8_lossy(&output.stderr));
        Self { _dir: dir, path }
    }

    /// Where the program is on the host.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it into the root file system of a bundle.
    #[must_use]
    pub fn into_bundle(&self, bundle: Bundle, inside: &str) -> Bundle {
        bundle.program(inside, &self.path)
    }
}
