//! `linux.seccomp` as a program for the kernel.

use seccomp::{Arch, Context, KernelVersion, Profile};

use crate::error::{Result, other};

/// A compiled filter.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// None where the configuration asks for none.
    pub(crate) program: Option<Vec<u8>>,
    /// `SECCOMP_FILTER_FLAG_*` bits.
    pub(crate) flags: u32,
}

/// Compiles the profile.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compile(profile: Option<&Profile>, bounding: u64) -> Result<Filter> {
    let Some(profile) = profile else { return Ok(Filter::default()) };
    let Some(arch) = Arch::native() else {
        return other(
            "config.json: linux.seccomp: filters are not compiled for this architecture; take the section out",
        );
    };
    // The document is already resolved for its host: nothing in it depends on the kernel's version.
    let kernel = KernelVersion { major: u32::MAX, minor: 0 };
    let program = seccomp::compile(profile, &Context { caps: bounding, arch, kernel })?;
    if program.is_empty() {
        return Ok(Filter::default());
    }
    let flags = profile.filter_flags()?;
    if profile.notifies() && profile.listener_path.as_ref().is_none_or(String::is_empty) {
        return other(
            "config.json: linux.seccomp.listenerPath: an action is SCMP_ACT_NOTIFY, so name the socket of whoever answers",
        );
    }
    Ok(Filter { program: Some(program), flags })
}
