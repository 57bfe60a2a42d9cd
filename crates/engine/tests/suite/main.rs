//! The engine by its own interface, in one program: each further one would compile all of its asynchronous code again.

mod archive;
mod common;
mod containers;
mod images;
mod pull;
mod recovery;
