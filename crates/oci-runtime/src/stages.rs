//! What the specification adds between the birth of a container's process and its program, as the child does it:
//! hooks in the container's namespaces, and the wait of `create` for `start`.

use std::os::fd::{AsFd, BorrowedFd};

use launch::FailureStage;
use oci::{Hook, State};
use runtime::{At, Failure, Point, Stages};
use sys::socket::{FdListener, FdSocket};

use crate::hooks;

/// The child's part of a start.
pub(crate) struct Steps<'a> {
    /// Ids are to be mapped, or the process moved, before anything else.
    pub(crate) hold_born: bool,
    /// Hooks of the runtime's namespaces are to run when the mounts stand.
    pub(crate) hold_rooted: bool,
    pub(crate) create_container: &'a [Hook],
    pub(crate) start_container: &'a [Hook],
    pub(crate) state: State,
    /// Where `start` connects; none when creating and starting are one.
    pub(crate) gate: Option<FdListener>,
}

impl Steps<'_> {
    fn state(&mut self, status: oci::Status) -> &State {
        self.state.status = status;
        // As the container numbers it.
        self.state.pid = Some(i32::try_from(std::process::id()).unwrap_or(0));
        &self.state
    }
}

fn failed(why: String) -> Failure {
    Failure { stage: FailureStage::Hook, errno: 0, detail: why }
}

impl Stages for Steps<'_> {
    fn holds(&self, point: Point) -> bool {
        match point {
            Point::Born => self.hold_born,
            Point::Rooted => self.hold_rooted,
            // Nothing runs before it is on record.
            Point::Ready => true,
        }
    }

    fn kept(&self) -> Option<BorrowedFd<'_>> {
        self.gate.as_ref().map(AsFd::as_fd)
    }

    fn pass(&mut self, point: Point) -> Result<Option<FdSocket>, Failure> {
        match point {
            Point::Born => Ok(None),
            Point::Rooted => {
                let hooks = self.create_container;
                if !hooks.is_empty() {
                    hooks::run("createContainer", hooks, self.state(oci::Status::Creating)).map_err(failed)?;
                }
                Ok(None)
            }
            Point::Ready => match self.gate.take() {
                Some(gate) => gate.wait().map(Some).at(FailureStage::Protocol, || "wait to be started".to_owned()),
                None => Ok(None),
            },
        }
    }

    fn confined(&mut self) -> Result<(), Failure> {
        let hooks = self.start_container;
        if hooks.is_empty() {
            return Ok(());
        }
        hooks::run("startContainer", hooks, self.state(oci::Status::Created)).map_err(failed)
    }
}
