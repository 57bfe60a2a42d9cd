//! What a Dockerfile may at most be. Each bound is far above what people write and low enough that a hostile file costs
//! milliseconds and megabytes; what is above one is refused with its name and number.

/// Bytes of the file. The text is sent to the builder in one message, whose usual bound is 16 MiB.
pub const FILE: usize = 4 << 20;
/// Bytes of one instruction with its continuation lines, without heredocs; also of one line.
pub const LINE: usize = 1 << 20;
/// Instructions of the file, triggers of base images included.
pub const INSTRUCTIONS: usize = 20_000;
/// Stages: each is resolved against the names of all before it.
pub const STAGES: usize = 1_000;
/// Heredocs of one instruction.
pub const HEREDOCS: usize = 64;
/// Words, pairs or list elements of one instruction.
pub const WORDS: usize = 10_000;
/// `--mount`, `--device` and `--exclude` flags of one instruction.
pub const FLAGS: usize = 1_000;
/// Braces within braces of a substitution: `${a:-${b:-…}}`.
pub const EXPANSION_DEPTH: usize = 64;
/// Bytes that one word may expand to. Linux takes no environment string above 128 KiB anyway (`MAX_ARG_STRLEN`), but
/// labels and heredocs are longer.
pub const EXPANSION: usize = 4 << 20;
/// Bytes and comparisons of all expansions of one evaluation: `ENV a=$a$a` doubles each time it is repeated.
pub const EXPANSION_WORK: u64 = 256 << 20;
/// Names without declaration that one instruction reports.
pub const UNDEFINED: usize = 100;
/// Findings of the build checks in one file.
pub const WARNINGS: usize = 1_000;
/// Names of an environment that are looked through for one that is similar to an undefined one.
pub const SUGGESTIONS: usize = 256;
/// Bytes of a stage's environment and arguments together.
pub const ENVIRONMENT: usize = 8 << 20;
/// Arrays within arrays that are looked through for the end of a JSON list.
pub const JSON_DEPTH: usize = 64;
/// Triggers that are taken over from a base image.
pub const TRIGGERS: usize = 1_000;
/// Bytes of a `.dockerignore` file.
pub const IGNORE_FILE: usize = 1 << 20;
/// Patterns in it.
pub const IGNORE_PATTERNS: usize = 20_000;
/// Bytes of one of its patterns, and of a path that is matched: `PATH_MAX` of Linux.
pub const IGNORE_PATTERN: usize = 4_096;
/// Bytes of all its patterns with wildcards, which every path is run through.
pub const IGNORE_WILDCARDS: usize = 64 << 10;
