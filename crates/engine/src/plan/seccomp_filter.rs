//! The system call filter of a container: the default profile compiled once per capability set, a
//! profile the user sent, or none. Called by the plan.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use seccomp::{Arch, Context, KernelVersion, Profile};

use crate::error::{Result, fail};

/// A user's profile may not be larger, bytes.
const MAX_PROFILE: usize = 1 << 20;

/// Compiled default programs by bounding set.
#[derive(Debug)]
pub(crate) struct Filters {
    kernel: KernelVersion,
    compiled: Mutex<HashMap<u64, Arc<Vec<u8>>>>,
}

impl Filters {
    pub(crate) fn new() -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let kernel = KernelVersion::parse(&release).unwrap_or(KernelVersion { major: 5, minor: 0 });
        Self { kernel, compiled: Mutex::default() }
    }

    /// # Errors
    /// Unsupported on a processor the filter compiler does not know: running without the filter a
    /// user counts on would be worse than not running.
    fn context(&self, caps: u64) -> Result<Context> {
        let arch = Arch::native().ok_or_else(|| {
            fail!(
                Unsupported,
                "no system call filter can be made for {}; run with --security-opt seccomp=unconfined",
                std::env::consts::ARCH
            )
        })?;
        Ok(Context { caps, arch, kernel: self.kernel })
    }

    /// What `options` (the container's `--security-opt` list) ask for.
    ///
    /// # Errors
    /// Invalid for a profile that cannot be read or compiled.
    pub(crate) fn resolve(&self, options: &[String], privileged: bool, caps: u64) -> Result<Option<Vec<u8>>> {
        let chosen =
            options.iter().rev().find_map(|o| o.strip_prefix("seccomp=").or_else(|| o.strip_prefix("seccomp:")));
        match chosen {
            Some("unconfined") => Ok(None),
            None if privileged => Ok(None),
            None | Some("" | "builtin" | "default") => Ok(Some(self.default_program(caps)?.as_ref().clone())),
            Some(json) => {
                if json.len() > MAX_PROFILE {
                    return Err(fail!(Invalid, "seccomp profile is too large: {} bytes", json.len()));
                }
                let profile: Profile =
                    serde_json::from_str(json).map_err(|e| fail!(Invalid, "Decoding seccomp profile failed: {e}"))?;
                let program = seccomp::compile(&profile, &self.context(caps)?).map_err(|e| fail!(Invalid, "{e}"))?;
                Ok((!program.is_empty()).then_some(program))
            }
        }
    }

    fn default_program(&self, caps: u64) -> Result<Arc<Vec<u8>>> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = compiled.get(&caps) {
            return Ok(Arc::clone(program));
        }
        let program = seccomp::compile(&Profile::docker_default(), &self.context(caps)?)
            .map_err(|e| fail!(Internal, "the default seccomp profile does not compile: {e}"))?;
        let program = Arc::new(program);
        // Users choose capability sets freely: keep a few, not all that were ever asked for.
        if compiled.len() >= 32 {
            compiled.clear();
        }
        compiled.insert(caps, Arc::clone(&program));
        Ok(program)
    }
}
