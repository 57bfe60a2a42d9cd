//! Signals by name and number, in the numbering of Linux on x86 and arm (signal(7)), with
//! real-time signals counted from 34 as the C libraries do.

use std::fmt;
use std::str::FromStr;

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct SignalError(String);

/// A signal number between 1 and 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(u8);

const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// Names in number order, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

impl Signal {
    /// SIGINT.
    pub const INT: Signal = Signal(2);
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);
    /// SIGHUP.
    pub const HUP: Signal = Signal(1);
    /// SIGCHLD.
    pub const CHLD: Signal = Signal(17);
    /// SIGWINCH.
    pub const WINCH: Signal = Signal(28);

    /// The signal of this number, if 1 ≤ number ≤ 64.
    pub fn from_number(number: i32) -> Option<Signal> {
        u8::try_from(number).ok().filter(|n| (1..=RTMAX).contains(n)).map(Signal)
    }

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Every named signal (without `SIG`), for help texts and completion.
    pub fn names() -> impl Iterator<Item = (&'static str, Signal)> {
        NAMES.iter().zip(1u8..).map(|(name, n)| (*name, Signal(n)))
    }
}

impl FromStr for Signal {
    type Err = SignalError;

    /// Accepts a number, a name with or without `SIG` in any case, and `RTMIN+n` or `RTMAX-n`.
    fn from_str(text: &str) -> Result<Signal, SignalError> {
        let bad = || SignalError(text.chars().take(80).collect());
        if let Ok(number) = text.parse::<i32>() {
            return Signal::from_number(number).ok_or_else(bad);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, signal)) = Signal::names().find(|(n, _)| *n == name) {
            return Ok(signal);
        }
        let offset = |digits: &str| -> Option<u8> {
            digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
        };
        let number = match name {
            "CLD" => Some(17),
            "IOT" => Some(6),
            "POLL" => Some(29),
            "UNUSED" => Some(31),
            "RTMIN" => Some(RTMIN),
            "RTMAX" => Some(RTMAX),
            _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
                (Some(n), _) => offset(n).and_then(|n| RTMIN.checked_add(n)),
                (_, Some(n)) => offset(n).and_then(|n| RTMAX.checked_sub(n)),
                _ => None,
            },
        };
        number.filter(|n| (1..=31).contains(n) || (RTMIN..=RTMAX).contains(n)).map(Signal).ok_or_else(bad)
    }
}

impl fmt::Display for Signal {
    /// `SIGTERM`, `SIGRTMIN+3`, or the number of one without a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n @ 1..=31 => write!(f, "SIG{}", NAMES[usize::from(n) - 1]),
            RTMIN => f.write_str("SIGRTMIN"),
            n if n > RTMIN => write!(f, "SIGRTMIN+{}", n - RTMIN),
            n => write!(f, "{n}"),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("KILL", 9),
            ("sigwinch", 28),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for bad in ["", "0", "-1", "65", "FOO", "RTMIN+31", "RTMAX-31", "RTMIN+-1", "SIG", "RTMIN+999"] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
        assert_eq!("FOO".parse::<Signal>().unwrap_err().to_string(), "invalid signal: FOO");
        for n in (1..=31).chain(34..=64) {
            let signal = Signal::from_number(n).unwrap();
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
    }
}
