//! The client of registries against scripted and real ones, in one program: each further one would compile all of HTTP again.

mod hostile;
mod hosts;
mod http2;
mod proxy;
mod pull;
mod put;
mod ranges;
mod referrers;
mod registry;
mod support;
