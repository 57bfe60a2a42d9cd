//! What compiled filters answer, without a kernel: run by an interpreter of our own.

mod document;
mod oracle;
mod support;
