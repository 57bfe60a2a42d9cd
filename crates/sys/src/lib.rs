//! placeholder
#![allow(unsafe_code)]
pub mod netlink_option;
pub mod netns;
pub mod path;
