//! Docker's client configuration: `config.json`, credentials and contexts. It is shared with Docker's own client, so
//! what this one does not understand is kept as it is.

pub(crate) mod context;
pub(crate) mod credentials;
mod file;
pub(crate) mod plugin;

pub(crate) use file::ConfigFile;
