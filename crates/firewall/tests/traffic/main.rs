//! The firewall on real packets of both families, in a private network namespace that stands for the host.
//!
//! They need root; without it they say so and pass. Everything ends with its namespace, so a failing test leaves nothing
//! behind.

mod damage;
mod modes;
mod names;
mod published;
mod table;
mod world;
