//! Output: documents that keep the daemon's key order, Go templates over them, tables, and the words for sizes and
//! times. Pure; printing is `term`'s.

pub(crate) mod json;
mod listing;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod time;
mod value;

pub(crate) use listing::{Column, Listing, unescape};
pub(crate) use value::Value;
