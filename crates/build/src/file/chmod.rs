//! Changes of a mode: a number, or the words of chmod(1).

use super::error::FileError;

/// What becomes of the modes of what is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// All twelve bits are these.
    Bits(u32),
    /// Words, one after the other.
    Words(Vec<Word>),
}

/// One change: `u+x` is one, `go=r-w` two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Bits of the classes it is about: their `rwx`, with set-user-id, set-group-id and sticky.
    classes: u32,
    operation: Operation,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Remove,
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Permissions for every class, and whether `X` is among them.
    Bits(u32, bool),
    /// Those another class has: by how many bits they are shifted.
    Of(u32),
}

const EXECUTE: u32 = 0o111;

impl ModeChange {
    /// Reads `0644`, `u+x,go-w`, `a=rX` and the like. Words without a class are about all of them.
    ///
    /// # Errors
    /// [`FileError::Mode`].
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let invalid = || FileError::Mode(text.chars().take(64).collect());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits = text.bytes().all(|b| matches!(b, b'0'..=b'7')).then(|| u32::from_str_radix(text, 8).ok());
            return bits.flatten().filter(|bits| *bits <= 0o7777).map(Self::Bits).ok_or_else(invalid);
        }
        let mut words = Vec::new();
        for clause in text.split(',') {
            clause_words(clause, &mut words).ok_or_else(invalid)?;
        }
        Ok(Self::Words(words))
    }

    /// The mode something gets; of `mode` the twelve bits count.
    #[must_use]
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        let before = mode & 0o7777;
        match self {
            Self::Bits(bits) => bits & 0o7777,
            Self::Words(words) => words.iter().fold(before, |mode, word| word.apply(mode, before, directory)),
        }
    }
}

impl Word {
    fn apply(&self, mode: u32, before: u32, directory: bool) -> u32 {
        let bits = match self.what {
            What::Bits(bits, search) if search && (directory || before & EXECUTE != 0) => bits | EXECUTE,
            What::Bits(bits, _) => bits,
            What::Of(shift) => (mode >> shift & 0o7) * EXECUTE,
        } & self.classes;
        match self.operation {
            Operation::Add => mode | bits,
            Operation::Remove => mode & !bits,
            Operation::Set => mode & !self.classes | bits,
        }
    }
}

/// `ugo+rw-x`: classes once, then operations.
fn clause_words(clause: &str, words: &mut Vec<Word>) -> Option<()> {
    let mut chars = clause.chars().peekable();
    let mut classes = 0;
    while let Some(class) = chars.next_if(|c| "ugoa".contains(*c)) {
        classes |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            _ => 0o7777,
        };
    }
    if classes == 0 {
        classes = 0o7777;
    }
    chars.peek()?;
    while let Some(operation) = chars.next() {
        let operation = match operation {
            '+' => Operation::Add,
            '-' => Operation::Remove,
            '=' => Operation::Set,
            _ => return None,
        };
        let shift = chars.next_if(|c| "ugo".contains(*c)).map(|class| match class {
            'u' => 6,
            'g' => 3,
            _ => 0,
        });
        let what = match shift {
            Some(shift) => What::Of(shift),
            None => {
                let (mut bits, mut search) = (0, false);
                while let Some(permission) = chars.next_if(|c| "rwxXst".contains(*c)) {
                    match permission {
                        'r' => bits |= 0o444,
                        'w' => bits |= 0o222,
                        'x' => bits |= EXECUTE,
                        's' => bits |= 0o6000,
                        't' => bits |= 0o1000,
                        _ => search = true,
                    }
                }
                What::Bits(bits, search)
            }
        };
        words.push(Word { classes, operation, what });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_chmod() {
        for (text, mode, directory, expected) in [
            ("0755", 0o644, false, 0o755),
            ("4711", 0o644, false, 0o4711),
            ("u+x,go-w", 0o666, false, 0o744),
            ("a=rX", 0o600, false, 0o444),
            ("a=rX", 0o700, false, 0o555),
            ("a=rX", 0o600, true, 0o555),
            ("+x", 0o644, false, 0o755),
            ("go=", 0o777, false, 0o700),
            ("go=u-w", 0o750, false, 0o755),
            ("g=u", 0o741, false, 0o771),
            ("u+s", 0o755, false, 0o4755),
            ("g+s,o+t", 0o755, true, 0o3755),
            ("u=rwx", 0o4755, false, 0o755),
            ("u-x,a+X", 0o700, false, 0o711),
        ] {
            assert_eq!(ModeChange::parse(text).unwrap().apply(mode, directory), expected, "{text} {mode:o}");
        }
        for text in ["", ",", "u", "q+r", "u+q", "17777", "08", "0x1", "u+x,", "rwx", "99999999999"] {
            assert!(ModeChange::parse(text).is_err(), "{text}");
        }
    }
}
