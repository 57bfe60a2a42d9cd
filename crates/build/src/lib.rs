//! The builder: Dockerfiles and other definitions become graphs of steps, and a solver carries out what of a graph is needed
//! and not known yet.

pub mod file;
