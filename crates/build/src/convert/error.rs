//! Why an evaluated Dockerfile cannot become a graph. What the language itself refuses was refused before; here are the
//! mistakes that only show when instructions meet the stages, contexts and options of a build.

use dockerfile::{Lines, Span};

/// A mistake with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ConvertError {
    /// What is wrong.
    pub problem: Problem,
    /// The lines of the instruction.
    pub lines: Option<Lines>,
    /// Its bytes.
    pub span: Option<Span>,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The graph, its names and the history together are larger than any build needs.
    #[error("the build's definition is larger than {0} bytes; use fewer steps or a smaller environment")]
    TooLarge(usize),
    /// A context was named that the options do not have.
    #[error("build context {0:?} is not known; pass it with --build-context")]
    UnknownContext(String),
    /// Files are wanted from a stage that was not evaluated before.
    #[error("cannot copy from stage {from:?}, it needs to be defined before current stage {current:?}")]
    LaterStage {
        /// The stage with the files.
        from: String,
        /// The stage that wants them.
        current: String,
    },
    /// The evaluation belongs to another plan.
    #[error("stage {0} is needed but was not evaluated")]
    NotEvaluated(usize),
    /// A name for a source that cannot be read.
    #[error("{0}")]
    Origin(String),
    /// A mount over the root directory.
    #[error("invalid mount target {0:?}")]
    MountTarget(String),
    /// An address of a repository that cannot be read.
    #[error("invalid git address {address:?}: {why}")]
    Git {
        /// As written.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// `--keep-git-dir` and the address say different things.
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDir,
    /// `--checksum` and the address say different things.
    #[error("checksum mismatch {0:?} != {1:?}")]
    Checksum(String, String),
    /// What another build makes cannot be read.
    #[error("the build context that another build makes cannot be read: {0}")]
    Made(String),
    /// A time that no image can have.
    #[error("SOURCE_DATE_EPOCH {0} is not a time that can be written")]
    Epoch(i64),
}

impl ConvertError {
    /// Says where, unless a closer place is known already.
    pub(super) fn at(mut self, lines: Lines, span: Span) -> Self {
        self.lines.get_or_insert(lines);
        self.span.get_or_insert(span);
        self
    }
}

impl From<Problem> for ConvertError {
    fn from(problem: Problem) -> Self {
        Self { problem, lines: None, span: None }
    }
}
