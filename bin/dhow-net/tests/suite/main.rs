//! The network process with real sockets, in network namespaces that stand for the host and for containers.
//!
//! They need root; without it they say so and pass. Everything ends with its namespaces and directory.

mod fixture;
mod hostile;
mod ports;
mod resolver;
mod restart;
mod upstream;
