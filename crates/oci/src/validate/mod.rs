//! Checks.
use crate::{Fault, Process, Resources, Spec};
pub(crate) fn limits(_: &Spec) -> Result<(), Fault> {
    Ok(())
}
pub(crate) fn spec(_: &Spec) -> Result<Vec<String>, Fault> {
    Ok(Vec::new())
}
pub(crate) fn process(_: &Process) -> Result<Vec<String>, Fault> {
    Ok(Vec::new())
}
pub(crate) fn resources(_: &Resources) -> Result<Vec<String>, Fault> {
    Ok(Vec::new())
}
