//! A first process for containers whose program is not made to be one (`--init`): passes signals on,
//! reaps orphans, ends as the program ends.
//!
//! It splits off just before the last steps, so both halves go through the same confinement; the
//! child goes on to the program, the parent never executes anything.

use std::os::fd::BorrowedFd;

use launch::{FailureStage, Process};
use sys::Errno;
use sys::clone::Cloned;
use sys::process::Reaped;
use sys::socket::FdSocket;

use crate::confine;
use crate::failure::{At, Failure};
use crate::report::Reporter;

/// SIGCHLD, and the signals a faulty instruction raises, which are not for passing on.
const SIGCHLD: i32 = 17;
const OWN_FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// Forks. Returns in the child, which is to become the program; the parent stays as init.
pub(crate) fn split(process: &Process, terminal: Option<BorrowedFd<'_>>, reporter: &Reporter) -> Result<(), Failure> {
    let (gate, held) =
        FdSocket::pair().at(FailureStage::Clone, || "make the gate between init and the program".to_owned())?;
    // Before the split, so that no signal finds init with a default action.
    sys::process::block_all_signals();
    let cloned =
        sys::clone::clone3(0, None).at(FailureStage::Clone, || "create the program's process below init".to_owned())?;
    match cloned {
        Cloned::Child => {
            sys::process::reset_signals();
            drop(held);
            // Until init has given up its privileges and descriptors: no program runs beside what it could
            // still take from there. The end of the connection says so, and says it too when init has died.
            let _ = gate.recv(&mut [0; 1]);
            lead(terminal)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(pidfd);
            let _ = sys::process::set_name(c"dhow-init");
            // The program's half reports the same failure; without the filter nothing of ours must stay.
            if confine::drop_privileges(process, reporter).is_err() {
                sys::process::exit_now(255);
            }
            let _ = rustix::process::chdir("/");
            // With the status socket among them: the program alone decides when it is closed.
            let _ = sys::fd::close_from(0);
            serve(pid)
        }
    }
}

/// The program gets a process group of its own and the terminal's foreground, so that what the
/// terminal sends goes to it alone, and what is sent to init arrives once.
fn lead(terminal: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let what = || "give the program the foreground".to_owned();
    rustix::process::setpgid(None, None).at(FailureStage::Console, what)?;
    let Some(terminal) = terminal else { return Ok(()) };
    // A background process that takes the foreground is stopped by SIGTTOU unless it looks away.
    sys::process::ignore_signals(&[22]);
    let taken = rustix::termios::tcsetpgrp(terminal, rustix::process::getpid());
    sys::process::reset_signals();
    taken.at(FailureStage::Console, what)
}

fn serve(program: i32) -> ! {
    loop {
        match sys::process::wait_signal() {
            Ok(SIGCHLD) => reap(program),
            Ok(signal) if !OWN_FAULTS.contains(&signal) => {
                let _ = sys::process::kill_child(program, signal);
            }
            Ok(_) => {}
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Signals cannot be waited for: at least end when the program does.
            Err(_) => reap(program),
        }
    }
}

fn reap(program: i32) {
    while let Ok(Some(reaped)) = sys::process::reap_any() {
        if let Reaped::Ended(ended) = reaped
            && ended.pid == program
        {
            sys::process::exit_now(ended.code);
        }
    }
}
