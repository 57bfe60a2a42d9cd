//! x
mod body;
mod detach;
mod gate;
mod hijack;
mod json;
pub mod listen;
mod query;
mod serve;
mod status;
mod version;
