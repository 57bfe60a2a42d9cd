//! Command line: static tables of commands and flags, a parser with the rules of Docker's client (POSIX short flags,
//! `--flag=value`, flags after arguments), and the help text made from the same tables.
//!
//! Tables instead of a builder: a command is found and parsed without building the other seventy, which is most of
//! the start-up time a flag library would take.

mod command;
mod help;
mod parse;

pub(crate) use command::{Arity, Command, Flag, Group, Kind};
pub(crate) use help::{command_help, group_help, root_help, usage as usage_line};
pub(crate) use parse::{Parsed, parse};
