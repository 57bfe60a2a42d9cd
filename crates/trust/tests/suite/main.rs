//! The judge with signatures made by other programs: cosign and skopeo (`data/`), and OpenSSL while the tests run.

mod cosign;
mod notation;
mod openssl;
mod real;
mod recorded;
mod world;
