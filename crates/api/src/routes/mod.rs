//! Routes, one file per resource: query and body into the engine's types, its answer into JSON.

pub(crate) mod build;
pub(crate) mod build_classic;
pub(crate) mod commit;
pub(crate) mod containers;
pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod networks;
pub(crate) mod stubs;
pub(crate) mod system;
pub(crate) mod volumes;
