//! Attestations: what is said of a result beside it. How it came about (`provenance`), and what it is made of (`sbom`), each
//! as a statement of in-toto about digests (`statement`).
//!
//! The same build gives the same statements: what changes with every build although nothing changed, such as the time, is
//! only in the provenance that is asked for in full.

mod asked;
mod llb;
mod packages;
mod provenance;
mod sbom;
mod statement;

pub(crate) use asked::Asked;
pub(crate) use statement::{MEDIA_TYPE as STATEMENT, Statement, Subject, purl};

use sys::path::Root;

use crate::error::Result;
use crate::job::{Job, Reference};

/// What is known of a result when statements about it are made.
pub(crate) struct About<'a> {
    /// The build.
    pub job: &'a Job,
    /// The result.
    pub reference: Option<&'a Reference>,
    /// Its platform.
    pub platform: &'a types::Platform,
    /// When it was made, as it says itself.
    pub created: Option<String>,
}

impl Asked {
    /// Makes the statements that are asked for. `everything` are also those that are for images alone. `root` gives the
    /// result's files, if they are needed. Blocking.
    ///
    /// # Errors
    /// Those of reading the result.
    pub(crate) fn make(
        &self,
        about: &About<'_>,
        everything: bool,
        root: impl FnOnce() -> Result<Root>,
    ) -> Result<Vec<Statement>> {
        let mut made = Vec::new();
        if let Some(sbom) = self.sbom.as_ref().filter(|sbom| everything || !sbom.inline_only) {
            made.push(sbom::make(&sbom.filename, &root()?, about.created.as_deref()));
        }
        if let Some(provenance) = self.provenance.as_ref().filter(|asked| everything || !asked.inline_only) {
            made.push(provenance::make(provenance, about));
        }
        Ok(made)
    }
}
