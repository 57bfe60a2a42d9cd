//! stub
use std::path::Path;
use sys::path::Root;
pub trait ContentDigests { fn known(&self, path: &Path, stat: &rustix::fs::Stat) -> Option<[u8;32]>; fn learnt(&self, path: &Path, stat: &rustix::fs::Stat, digest: [u8;32]); }
impl ContentDigests for () { fn known(&self, _: &Path, _: &rustix::fs::Stat) -> Option<[u8;32]> { None } fn learnt(&self, _: &Path, _: &rustix::fs::Stat, _: [u8;32]) {} }
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct FileError;
#[derive(Clone, Debug, Default)] pub struct Selection;
pub fn digest(_: &Root, _: &Selection, _: &dyn ContentDigests) -> Result<[u8;32], FileError> { Err(FileError) }
