//! What compiled filters answer, without loading them: run by an interpreter of our own and compared with a
//! naive reading of the profile and with libseccomp's program for it.

mod default_profile;
mod differential;
mod document;
mod hostile;
mod libseccomp;
mod machine;
mod profiles;
mod random;
mod reading;
mod speed;
