//! Raw mode and window size of our terminal (termios(3), tty_ioctl(4)).

use rustix::termios::{self, OptionalActions, Termios};

use crate::Result;

/// The terminal in raw mode; dropping it restores what was there before.
#[derive(Debug)]
pub(crate) struct RawMode(Termios);

impl RawMode {
    /// Puts the terminal at standard input into raw mode. `None` when there is no terminal.
    pub(crate) fn enter() -> Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        let Ok(before) = termios::tcgetattr(stdin) else { return Ok(None) };
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin, OptionalActions::Now, &raw).map_err(std::io::Error::from)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing better can be done about a terminal that went away.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Height and width of the terminal at standard output, in cells.
pub(crate) fn window_size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Switches echo of typed characters off until dropped; for passwords.
#[derive(Debug)]
pub(crate) struct NoEcho(Termios);

impl NoEcho {
    pub(crate) fn enter() -> Option<Self> {
        let before = termios::tcgetattr(rustix::stdio::stdin()).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &quiet).ok()?;
        Some(Self(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}
