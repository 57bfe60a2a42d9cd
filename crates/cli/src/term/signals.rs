//! Signals while a container is attached: forwarded to its process, or, with a terminal, turned into a new window size.
//!
//! A thread takes them from a pipe, so no code of ours runs in a signal handler.

use client::Client;
use signal_hook::{
    consts::{
        SIGABRT, SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU,
        SIGUSR1, SIGUSR2, SIGWINCH,
    },
    iterator::Signals,
};
use types::Signal;

use super::{output::warn, raw::window_size};

/// What can be resized.
#[derive(Clone, Debug)]
pub(crate) enum Resizable {
    Container(String),
    Exec(String),
}

impl Resizable {
    fn path(&self) -> String {
        match self {
            Self::Container(id) => format!("/containers/{}/resize", client::escape_segment(id)),
            Self::Exec(id) => format!("/exec/{}/resize", client::escape_segment(id)),
        }
    }
}

/// Forwards every signal that can be caught to the container until the process ends.
pub(crate) fn forward(client: &Client, container: &str) {
    // SIGCHLD, SIGURG and SIGPIPE speak about this process, not to it; the rest cannot be caught.
    const FORWARDED: [i32; 13] = [
        SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGABRT,
        SIGTRAP,
    ];
    let _ = SIGPIPE;
    let Ok(mut signals) = Signals::new(FORWARDED) else { return };
    let (client, container) = (client.clone(), container.to_owned());
    std::thread::spawn(move || {
        for number in signals.forever() {
            let Some(signal) = Signal::from_number(number) else { continue };
            let name = signal.to_string();
            let sent = client
                .post(format!("/containers/{}/kill", client::escape_segment(&container)))
                .query("signal", name.strip_prefix("SIG").unwrap_or(&name))
                .send_discard();
            // A container that has just ended, or not yet begun, has no use for the signal.
            if let Err(error) = sent
                && !matches!(error.status(), Some(404 | 409))
            {
                warn(&format!("cannot forward {name}: {error}"));
            }
        }
    });
}

/// Sends the window size now and whenever it changes.
pub(crate) fn follow_window(client: &Client, target: Resizable) {
    let client = client.clone();
    std::thread::spawn(move || {
        let Ok(mut signals) = Signals::new([SIGWINCH]) else { return };
        // The process may not be there yet when the first size is sent.
        for attempt in 0..10 {
            if resize(&client, &target) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10 * (attempt + 1)));
        }
        for _ in signals.forever() {
            resize(&client, &target);
        }
    });
}

fn resize(client: &Client, target: &Resizable) -> bool {
    let Some((height, width)) = window_size() else { return true };
    client.post(target.path()).query("h", &height.to_string()).query("w", &width.to_string()).send_discard().is_ok()
}
