//! The options of a mount in `config.json`, which are words of mount(8): which are attributes of the mount, which say
//! how it is made, and which are for the file system itself.

use sys::mount::attr;

const MS_UNBINDABLE: u64 = 1 << 17;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;
const MS_REC: u64 = 1 << 14;

/// What the options of one mount come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `MOUNT_ATTR_*` bits to set and to take away.
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// The same for the mount and all below it.
    pub(crate) tree_set: u64,
    pub(crate) tree_clear: u64,
    /// `MS_*` propagation; 0 where none is named.
    pub(crate) propagation: u64,
    /// A bind mount, and whether of all below the source too.
    pub(crate) bind: Option<bool>,
    /// Ids are mapped, and whether of all below too.
    pub(crate) idmap: Option<bool>,
    pub(crate) copy_up: bool,
    /// For the file system: a key with a value, or a flag.
    pub(crate) data: Vec<(String, Option<String>)>,
}

/// What one word means.
#[derive(Clone, Copy)]
enum Word {
    Set(u64),
    Clear(u64),
    Propagation(u64),
    Bind(bool),
    Idmap(bool),
    CopyUp,
    /// Nothing to do.
    Nothing,
}

/// Words that are not for the file system. Those of attributes have a recursive form with `r` in front.
const WORDS: &[(&str, Word)] = &[
    ("bind", Word::Bind(false)),
    ("rbind", Word::Bind(true)),
    ("defaults", Word::Nothing),
    ("remount", Word::Nothing),
    ("idmap", Word::Idmap(false)),
    ("ridmap", Word::Idmap(true)),
    ("tmpcopyup", Word::CopyUp),
    ("private", Word::Propagation(MS_PRIVATE)),
    ("rprivate", Word::Propagation(MS_PRIVATE | MS_REC)),
    ("shared", Word::Propagation(MS_SHARED)),
    ("rshared", Word::Propagation(MS_SHARED | MS_REC)),
    ("slave", Word::Propagation(MS_SLAVE)),
    ("rslave", Word::Propagation(MS_SLAVE | MS_REC)),
    ("unbindable", Word::Propagation(MS_UNBINDABLE)),
    ("runbindable", Word::Propagation(MS_UNBINDABLE | MS_REC)),
];

/// Words that are attributes of a mount.
const ATTRIBUTES: &[(&str, Word)] = &[
    ("ro", Word::Set(attr::RDONLY)),
    ("rw", Word::Clear(attr::RDONLY)),
    ("nosuid", Word::Set(attr::NOSUID)),
    ("suid", Word::Clear(attr::NOSUID)),
    ("nodev", Word::Set(attr::NODEV)),
    ("dev", Word::Clear(attr::NODEV)),
    ("noexec", Word::Set(attr::NOEXEC)),
    ("exec", Word::Clear(attr::NOEXEC)),
    ("nodiratime", Word::Set(attr::NODIRATIME)),
    ("diratime", Word::Clear(attr::NODIRATIME)),
    ("noatime", Word::Set(attr::NOATIME)),
    ("strictatime", Word::Set(attr::STRICTATIME)),
    // The access time modes are one value, of which relative is zero.
    ("relatime", Word::Clear(attr::ATIME)),
    ("atime", Word::Clear(attr::ATIME)),
    ("norelatime", Word::Set(attr::STRICTATIME)),
    ("nostrictatime", Word::Clear(attr::ATIME)),
    ("nosymfollow", Word::Set(attr::NOSYMFOLLOW)),
    ("symfollow", Word::Clear(attr::NOSYMFOLLOW)),
];

/// Words of the file system that contradict what it does anyway, or ask for what the kernel no longer has.
const DEFAULTS: &[&str] =
    &["acl", "async", "iversion", "loud", "mand", "noacl", "nodirsync", "noiversion", "nolazytime", "nomand", "silent"];

/// Words for any file system. A bind mount has the one it shows as it is, as mount(8) has it.
const FILE_SYSTEM: &[&str] = &["dirsync", "lazytime", "sync"];

impl Options {
    /// Reads the options in order; of words that contradict each other the last one holds.
    pub(crate) fn parse(words: &[String]) -> Self {
        let mut options = Self::default();
        for word in words {
            options.take(word);
        }
        options
    }

    fn take(&mut self, word: &str) {
        let find = |table: &[(&str, Word)], word: &str| table.iter().find(|(name, _)| *name == word).map(|(_, w)| *w);
        if let Some(meaning) = find(WORDS, word) {
            match meaning {
                Word::Bind(recursive) => self.bind = Some(recursive),
                Word::Idmap(recursive) => self.idmap = Some(recursive),
                Word::CopyUp => self.copy_up = true,
                Word::Propagation(bits) => self.propagation = bits,
                Word::Set(_) | Word::Clear(_) | Word::Nothing => {}
            }
        } else if let Some(meaning) = find(ATTRIBUTES, word) {
            change(&mut self.set, &mut self.clear, meaning);
        } else if let Some(meaning) = word.strip_prefix('r').and_then(|word| find(ATTRIBUTES, word)) {
            change(&mut self.tree_set, &mut self.tree_clear, meaning);
        } else if !DEFAULTS.contains(&word) && !word.is_empty() {
            self.data.push(match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            });
        }
    }

    /// Words that mean something to one kind of file system, and nothing for a bind mount.
    pub(crate) fn foreign_to_binds(&self) -> Vec<&str> {
        self.data.iter().map(|(key, _)| key.as_str()).filter(|key| !FILE_SYSTEM.contains(key)).collect()
    }

    /// Every word that is not for one kind of file system, as `features` lists them.
    pub(crate) fn words() -> Vec<String> {
        let attributes = ATTRIBUTES.iter().map(|(name, _)| *name);
        let mut words: Vec<String> = WORDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        words.extend(attributes.clone().map(str::to_owned));
        words.extend(attributes.map(|name| format!("r{name}")));
        words.extend(DEFAULTS.iter().chain(FILE_SYSTEM).map(|name| (*name).to_owned()));
        words.sort();
        words.dedup();
        words
    }
}

fn change(set: &mut u64, clear: &mut u64, meaning: Word) {
    match meaning {
        Word::Set(bits) => {
            // A new access time mode takes the place of the old.
            if bits & attr::ATIME != 0 {
                *set &= !attr::ATIME;
            }
            *set |= bits;
            *clear &= !bits;
        }
        Word::Clear(bits) => {
            *set &= !bits;
            *clear |= bits;
        }
        Word::Propagation(_) | Word::Bind(_) | Word::Idmap(_) | Word::CopyUp | Word::Nothing => {}
    }
}

/// `linux.rootfsPropagation` as `MS_*` bits.
pub(crate) fn root_propagation(word: &str) -> u64 {
    Options::parse(&[word.to_owned()]).propagation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        Options::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn words_have_their_places() {
        let options = parse(&["rbind", "ro", "nosuid", "rprivate", "rro", "rnodev", "size=64m", "userxattr"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.set, attr::RDONLY | attr::NOSUID);
        assert_eq!(options.tree_set, attr::RDONLY | attr::NODEV);
        assert_eq!(options.propagation, MS_PRIVATE | MS_REC);
        assert_eq!(options.data, [("size".to_owned(), Some("64m".to_owned())), ("userxattr".to_owned(), None)]);
    }

    #[test]
    fn the_last_of_contradicting_words_holds() {
        assert_eq!(parse(&["ro", "rw"]).set, 0);
        assert_eq!(parse(&["ro", "rw"]).clear, attr::RDONLY);
        assert_eq!(parse(&["rw", "ro"]).set, attr::RDONLY);
        assert_eq!(parse(&["noatime", "strictatime"]).set, attr::STRICTATIME);
        assert_eq!(parse(&["strictatime", "relatime"]).set, 0);
    }

    #[test]
    fn what_begins_with_r_is_not_always_recursive() {
        assert!(parse(&["relatime"]).tree_set == 0 && parse(&["relatime"]).data.is_empty());
        assert_eq!(parse(&["rrelatime"]).tree_clear, attr::ATIME);
        assert_eq!(parse(&["rgid=5"]).data, [("rgid".to_owned(), Some("5".to_owned()))]);
        assert_eq!(root_propagation(""), 0);
        assert_eq!(root_propagation("slave"), MS_SLAVE);
        assert_eq!(root_propagation("rshared"), MS_SHARED | MS_REC);
    }
}
