//! `COPY [flags] SOURCE… DESTINATION` and ADD, which also unpacks and fetches.

use super::flags::Flags;
use crate::error::{Error, Problem};
use crate::heredoc::{self, Heredoc};
use crate::word::{Rest, Word};

/// What COPY and ADD have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// At least one.
    pub sources: Vec<FileSource>,
    /// Path in the image; a directory when it ends in a slash.
    pub destination: Word,
    /// `--chown`, as `user:group` by name or number.
    pub chown: Option<Word>,
    /// `--chmod`, checked when it is expanded.
    pub chmod: Option<Word>,
    /// `--link`: the files become a layer that knows nothing of what is below.
    pub link: bool,
    /// `--exclude`: patterns of what is left out.
    pub exclude: Vec<Word>,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSource {
    /// A path, a pattern, or for ADD an address.
    Path(Word),
    /// A document in the Dockerfile, which becomes a file of its name.
    Heredoc(Heredoc),
}

/// COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What goes where.
    pub files: Files,
    /// `--from`: name or number of a stage, an image, or a named context.
    pub from: Option<Word>,
    /// `--parents`: directories of the sources come along.
    pub parents: bool,
}

/// ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// What goes where.
    pub files: Files,
    /// `--checksum` of what is fetched.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--unpack`: whether archives are unpacked; by default local ones are and fetched ones are not.
    pub unpack: Option<bool>,
}

/// What a source of ADD is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddSource {
    /// In the build context.
    Local,
    /// Fetched over HTTP.
    Http,
    /// A git repository.
    Git,
}

impl AddSource {
    /// By its address alone. A repository is one of git's schemes, `git@host:path`, or an HTTP address that ends in `.git`
    /// before its fragment or query.
    #[must_use]
    pub fn of(address: &str) -> Self {
        let scheme = |schemes: &[&str]| schemes.iter().any(|scheme| address.starts_with(scheme));
        if scheme(&["http://", "https://"]) {
            let path = address.split(['#', '?']).next().unwrap_or_default();
            if path.trim_end_matches('/').ends_with(".git") { AddSource::Git } else { AddSource::Http }
        } else if scheme(&["git://", "ssh://", "git@"])
            || (scheme(&["github.com/"]) && address.matches('/').count() > 1)
        {
            AddSource::Git
        } else {
            AddSource::Local
        }
    }
}

pub(super) fn parse_copy(
    flags: &mut Flags,
    rest: &Rest<'_>,
    heredocs: &[Heredoc],
    escape: char,
) -> Result<Copy, Error> {
    let from = flags.text("from")?.filter(|from| !from.text.is_empty());
    let mut files = files("COPY", rest, heredocs, escape)?;
    common(&mut files, flags)?;
    Ok(Copy { files, from, parents: flags.boolean("parents")?.unwrap_or(false) })
}

pub(super) fn parse_add(flags: &mut Flags, rest: &Rest<'_>, heredocs: &[Heredoc], escape: char) -> Result<Add, Error> {
    let mut files = files("ADD", rest, heredocs, escape)?;
    common(&mut files, flags)?;
    let keep_git_dir = flags.boolean("keep-git-dir")?.unwrap_or(false);
    let checksum = flags.text("checksum")?.filter(|checksum| !checksum.text.is_empty());
    Ok(Add { files, checksum, keep_git_dir, unpack: flags.boolean("unpack")? })
}

fn common(files: &mut Files, flags: &mut Flags) -> Result<(), Error> {
    files.chown = flags.text("chown")?.filter(|word| !word.text.is_empty());
    files.chmod = flags.text("chmod")?.filter(|word| !word.text.is_empty());
    files.link = flags.boolean("link")?.unwrap_or(false);
    files.exclude = flags.list("exclude")?;
    Ok(())
}

fn files(name: &'static str, rest: &Rest<'_>, heredocs: &[Heredoc], escape: char) -> Result<Files, Error> {
    let mut words = match rest.list()? {
        Some(words) => words,
        None => rest.words()?,
    };
    let destination = words.pop().filter(|_| !words.is_empty());
    let destination = destination.ok_or_else(|| Error::parse(Problem::NoDestination(name)))?;
    let opens = |word: &Word| !heredocs.is_empty() && heredoc::parse(&word.text, escape).is_some();
    if opens(&destination) {
        return Err(Error::parse(Problem::HeredocDestination(name)).at(destination.span));
    }
    let mut left = heredocs.iter();
    let sources = words.into_iter().map(|word| match opens(&word).then(|| left.next()).flatten() {
        Some(heredoc) => FileSource::Heredoc(heredoc.clone()),
        None => FileSource::Path(word),
    });
    let sources = sources.collect();
    Ok(Files { sources, destination, chown: None, chmod: None, link: false, exclude: Vec::new() })
}

/// Permissions for what is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// These bits.
    Octal(u32),
    /// Changes to what each file has, as `chmod(1)` takes them.
    Symbolic(String),
}

/// Reads the value of `--chmod`.
///
/// # Errors
/// Neither an octal number up to 07777 nor symbolic changes.
pub(crate) fn chmod(text: &str) -> Result<Mode, Problem> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        return match u32::from_str_radix(text, 8) {
            Ok(mode) if octal && mode <= 0o7777 => Ok(Mode::Octal(mode)),
            _ => Err(Problem::Chmod(text.to_owned())),
        };
    }
    let valid = text.split(',').all(|clause| {
        let changes = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        // One change or more, each an operator with permissions or with a class to take them from.
        changes.starts_with(['+', '-', '='])
            && changes
                .split(['+', '-', '='])
                .skip(1)
                .all(|bits| bits.chars().all(|c| "rwxXst".contains(c)) || matches!(bits, "u" | "g" | "o"))
    });
    if valid { Ok(Mode::Symbolic(text.to_owned())) } else { Err(Problem::ChmodSyntax) }
}

/// Checks the value of `--checksum` against the addresses it is for.
///
/// # Errors
/// A local source, several sources, or for HTTP no digest.
pub(crate) fn checksum(text: &str, sources: &[&str]) -> Result<(), Problem> {
    let [source] = sources else { return Err(Problem::ChecksumSources) };
    match AddSource::of(source) {
        AddSource::Local => Err(Problem::ChecksumSource),
        // The beginning of a commit's name, which is compared with what was fetched.
        AddSource::Git => Ok(()),
        AddSource::Http => {
            let (algorithm, hex) = text.split_once(':').ok_or(Problem::ChecksumFormat)?;
            let digits = match algorithm {
                "sha256" => 64,
                "sha384" => 96,
                "sha512" => 128,
                _ => return Err(Problem::ChecksumAlgorithm),
            };
            if hex.len() != digits {
                return Err(Problem::ChecksumLength);
            }
            let valid = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if valid { Ok(()) } else { Err(Problem::ChecksumFormat) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instruction;
    use crate::testing::{error, one};

    fn sources(files: &Files) -> Vec<&str> {
        fn text(source: &FileSource) -> &str {
            match source {
                FileSource::Path(word) => &word.text,
                FileSource::Heredoc(heredoc) => &heredoc.content,
            }
        }
        files.sources.iter().map(text).collect()
    }

    #[test]
    fn sources_and_destinations() {
        for (line, expected, destination) in [
            ("COPY a b /c/", vec!["a", "b"], "/c/"),
            ("COPY [\"a b\", \"c\"]", vec!["a b"], "c"),
            ("COPY <<A x <<B /y\n1\nA\n2\nB", vec!["1\n", "x", "2\n"], "/y"),
            ("COPY \"a b", vec!["\"a"], "b"),
            ("COPY [\"a\", \"b\"] c", vec!["[\"a\",", "\"b\"]"], "c"),
        ] {
            let Instruction::Copy(copy) = one(line) else { panic!() };
            assert_eq!((sources(&copy.files), copy.files.destination.text.as_str()), (expected, destination), "{line}");
        }
        for line in ["COPY", "COPY a", "ADD [\"a\"]", "COPY <<A\nA"] {
            assert!(
                error(line).ends_with(
                    "at least two arguments, but only one was provided. Destination could not be determined"
                )
            );
        }
        assert!(error("COPY a <<A\nA").ends_with("COPY cannot accept a heredoc as a destination"));
    }

    #[test]
    fn flags() {
        let Instruction::Copy(copy) =
            one("COPY --from=x --chown=a:b --chmod=755 --link --parents --exclude=a --exclude=b c d")
        else {
            panic!()
        };
        assert_eq!(
            (copy.from.unwrap().text.as_str(), copy.parents, copy.files.link, copy.files.exclude.len()),
            ("x", true, true, 2)
        );
        let Instruction::Add(add) = one("ADD --keep-git-dir --checksum=abc --unpack=false a b") else { panic!() };
        assert_eq!((add.keep_git_dir, add.unpack, add.checksum.unwrap().text.as_str()), (true, Some(false), "abc"));
        assert!(error("ADD --from=x a b").ends_with("unknown flag: --from"));
    }

    #[test]
    fn permissions() {
        assert_eq!(chmod("0755"), Ok(Mode::Octal(0o755)));
        for text in ["u+x", "a+r,u=rw,go-w,+X", "u=g", "u+s,o+t", "u=rwX+s"] {
            assert_eq!(chmod(text), Ok(Mode::Symbolic(text.to_owned())), "{text}");
        }
        for text in ["999", "10000", "0o755", "8"] {
            assert_eq!(chmod(text), Err(Problem::Chmod(text.to_owned())), "{text}");
        }
        for text in ["u+q", "-1", "", "u", "u+x,", "rwx"] {
            assert_eq!(chmod(text), Err(Problem::ChmodSyntax), "{text}");
        }
    }

    #[test]
    fn addresses_and_checksums() {
        for (address, kind) in [
            ("https://h/a.git", AddSource::Git),
            ("https://h/a.git#main:x", AddSource::Git),
            ("https://h/a.git?ref=x", AddSource::Git),
            ("https://h/a.gz", AddSource::Http),
            ("git@h:a/b", AddSource::Git),
            ("ssh://h/a", AddSource::Git),
            ("github.com/a/b", AddSource::Git),
            ("a.git", AddSource::Local),
            ("ftp://h/a", AddSource::Local),
        ] {
            assert_eq!(AddSource::of(address), kind, "{address}");
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(checksum(&digest, &["http://h/a"]), Ok(()));
        assert_eq!(checksum("abcdef0", &["git@h:a"]), Ok(()));
        assert_eq!(checksum(&digest, &["a"]), Err(Problem::ChecksumSource));
        assert_eq!(checksum(&digest, &["http://h/a", "http://h/b"]), Err(Problem::ChecksumSources));
        for (text, problem) in [
            ("a", Problem::ChecksumFormat),
            ("sha256:a", Problem::ChecksumLength),
            ("md5:a", Problem::ChecksumAlgorithm),
            (&format!("sha256:{}", "A".repeat(64)), Problem::ChecksumFormat),
        ] {
            assert_eq!(checksum(text, &["http://h/a"]), Err(problem), "{text}");
        }
    }
}
