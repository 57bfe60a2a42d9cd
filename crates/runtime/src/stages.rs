//! The points at which a start can be held and added to: what the runtime specification asks for between the birth
//! of a container's process and its program (hooks, id mappings, `create` apart from `start`).
//!
//! Everything here runs in the child; the parent hears of a point through [`crate::Status`] and lets the child go on.
//! The shim has nothing to add and passes `()`.

use std::os::fd::BorrowedFd;

use sys::socket::FdSocket;

use crate::failure::Failure;

/// Where a child can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Born, in its new namespaces, with nothing done. In a new user namespace no id is mapped yet.
    Born = 0,
    /// The root is complete with all its mounts, but not yet entered where it is entered last
    /// ([`launch::RootFs::Directory`]).
    Rooted = 1,
    /// Everything is done but what takes privileges away; the program has been looked up.
    Ready = 2,
}

impl Point {
    pub(crate) fn of(number: u8) -> Option<Self> {
        [Self::Born, Self::Rooted, Self::Ready].into_iter().find(|point| *point as u8 == number)
    }
}

/// What the starter adds. Every method is called in the child.
pub trait Stages {
    /// Whether the child reports the point and waits for [`crate::Spawning::go_on`].
    fn holds(&self, _point: Point) -> bool {
        false
    }

    /// What [`Stages::pass`] still needs at [`Point::Ready`]; every other descriptor is closed before a child that is
    /// held there comes to it.
    fn kept(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Called at every point, after the parent has let the child go on where it is held. A connection in the answer
    /// takes over from the status socket: whoever is at its other end hears what becomes of the start.
    ///
    /// # Errors
    /// A failure ends the start.
    fn pass(&mut self, _point: Point) -> Result<Option<FdSocket>, Failure> {
        Ok(None)
    }

    /// The last thing before the program: privileges are gone, the filter is loaded.
    ///
    /// # Errors
    /// A failure ends the start.
    fn confined(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Nothing to add.
impl Stages for () {}
