//! Hostile images, one row for each way to be hostile: the bytes, and what must become of them. A row is refused with a
//! reason that says so, or contained; either way nothing outside of the store changes, and a refusal leaves nothing in
//! it. Every table of layers is run for both formats layers are kept in, in a process of its own whose memory,
//! processor time and size of files the kernel bounds.

mod archives;
mod attributes;
mod budget;
mod compression;
mod configs;
mod documents;
mod floods;
mod frame;
mod headers;
mod layout;
mod links;
mod nodes;
mod paths;
mod whiteouts;

#[path = "../common/mod.rs"]
mod common;
#[path = "../../../layer/tests/common/mod.rs"]
mod raw;
