//! `cp`, `diff` and `export`.
//!
//! The rules of `cp` are those of cp(1) as Docker has them: into an existing directory under the source's name, `SRC/.`
//! for a directory's contents, a directory never over a file. They are decided in [`Place::of`], the same for both
//! directions.

mod pack;
mod unpack;

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use client::Client;
use types::human_size_with_precision;

use super::{container_path, load};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::output::{copy_raw, print, stderr_is_terminal, stdout_is_terminal, warn},
};

pub(super) static CP: Command = Command {
    paths: &["container cp", "cp"],
    synopsis: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\ncp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files between a container and here\n\n'-' as the source reads an archive from standard input, '-' as the destination writes\none to standard output.",
    flags: &[&[
        Flag::switch("archive", "Keep owner and group").short('a'),
        Flag::switch("follow-link", "Follow a symbolic link in SRC_PATH").short('L'),
        Flag::switch("quiet", "Do not say what was copied").short('q'),
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: cp,
};

pub(super) static DIFF: Command = Command {
    paths: &["container diff", "diff"],
    synopsis: "CONTAINER",
    about: "Show what a container changed in its filesystem",
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |parsed, session| {
        let list: Value = session.client()?.get(container_path(parsed.first(), "/changes")).send()?.json()?;
        let letter = |kind: i64| match kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        print(
            &list
                .items()
                .iter()
                .map(|one| format!("{} {}\n", letter(one.int("Kind")), one.str("Path")))
                .collect::<String>(),
        )?;
        Ok(0)
    },
};

pub(super) static EXPORT: Command = Command {
    paths: &["container export", "export"],
    synopsis: "[OPTIONS] CONTAINER",
    about: "Write a container's filesystem as an archive",
    flags: &[&[Flag::text("output", "File to write instead of standard output").short('o')]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |parsed, session| {
        let target = parsed.opt("output");
        if target.is_none() && stdout_is_terminal() {
            return Err(Error::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        load::to_file_or_stdout(session.client()?.get(container_path(parsed.first(), "/export")), target)
    },
};

/// `CONTAINER:PATH`, or a path of ours.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Local(&'a str),
    Container(&'a str, &'a str),
}

impl<'a> Side<'a> {
    /// A path that begins with a slash or a dot is ours even when it has a colon in it.
    fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((container, path)) if !text.starts_with(['/', '.']) && !container.is_empty() => {
                Self::Container(container, path)
            }
            _ => Self::Local(text),
        }
    }
}

/// What is known about a path before copying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    File,
    Directory,
}

/// Where the root of the copied tree goes.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Directory it is put into; it exists.
    parent: PathBuf,
    /// Its name there; `None`: the contents go into the directory itself.
    name: Option<String>,
}

impl Place {
    fn of(source: &str, source_kind: Found, target: &str, target_kind: Found) -> Result<Self> {
        let base = base_name(source);
        let renamed = || -> Result<Self> {
            let path = Path::new(target.trim_end_matches('/').trim_end_matches("/."));
            let name = base_name(target).ok_or_else(|| Error::new("no such directory"))?;
            let parent = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            };
            Ok(Self { parent, name: Some(name) })
        };
        match (target_kind, source_kind) {
            (Found::Directory, _) => Ok(Self { parent: PathBuf::from(target), name: base }),
            (Found::File, Found::Directory) => Err(Error::new("cannot copy directory")),
            (Found::File, _) if target.ends_with('/') => Err(Error::new(format!("stat {target}: not a directory"))),
            (Found::Nothing, Found::Directory) | (Found::File, _) => renamed(),
            (Found::Nothing, _) if target.ends_with('/') || target.ends_with("/.") => {
                Err(Error::new("no such directory"))
            }
            (Found::Nothing, _) => renamed(),
        }
    }
}

/// The last component; `None` where it is `.`, `..` or the root, which stand for contents.
fn base_name(path: &str) -> Option<String> {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        None | Some("" | "." | "..") => None,
        Some(name) => Some(name.to_owned()),
    }
}

/// Metadata of a path in a container, as the archive endpoints give it.
#[derive(Debug, Default)]
struct Stat {
    mode: u64,
    link_target: String,
}

impl Stat {
    /// Bits of Go's `fs.FileMode`.
    const DIRECTORY: u64 = 1 << 31;
    const SYMLINK: u64 = 1 << 27;

    fn decode(header: Option<&str>) -> Result<Self> {
        let wrong = || Error::new("the daemon did not describe the path");
        let bytes = STANDARD.decode(header.ok_or_else(wrong)?).map_err(|_| wrong())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        Ok(Self {
            mode: u64::try_from(value.int("mode")).unwrap_or(0),
            link_target: value.str("linkTarget").to_owned(),
        })
    }
    fn kind(&self) -> Found {
        if self.mode & Self::DIRECTORY != 0 { Found::Directory } else { Found::File }
    }
    fn is_link(&self) -> bool {
        self.mode & Self::SYMLINK != 0
    }
}

fn stat(client: &Client, container: &str, path: &str) -> client::Result<Result<Stat>> {
    let answer = client.head(container_path(container, "/archive")).query("path", path).send()?;
    Ok(Stat::decode(answer.header("X-Docker-Container-Path-Stat")))
}

const STAT_HEADER: &str = "X-Docker-Container-Path-Stat";

fn cp(parsed: &Parsed, session: &Session) -> Result<u8> {
    let (source, target) = (&parsed.args[0], &parsed.args[1]);
    if source.is_empty() {
        return Err(Error::new("source can not be empty"));
    }
    if target.is_empty() {
        return Err(Error::new("destination can not be empty"));
    }
    match (Side::parse(source), Side::parse(target)) {
        (Side::Container(container, path), Side::Local(target)) => {
            from_container(parsed, session, container, path, target)
        }
        (Side::Local(source), Side::Container(container, path)) => {
            to_container(parsed, session, source, container, path)
        }
        (Side::Container(..), Side::Container(..)) => Err(Error::new("copying between containers is not supported")),
        (Side::Local(_), Side::Local(_)) => Err(Error::new("must specify at least one container source")),
    }
}

fn report(parsed: &Parsed, bytes: u64, target: &str) {
    if !parsed.on("quiet") && stderr_is_terminal() {
        warn(&format!("Successfully copied {} to {target}", human_size_with_precision(bytes as f64, 3)));
    }
}

fn from_container(parsed: &Parsed, session: &Session, container: &str, path: &str, target: &str) -> Result<u8> {
    let client = session.client()?;
    let mut wanted = path.to_owned();
    if parsed.on("follow-link") {
        // What is wrong with the path the download will tell.
        if let Ok(Ok(found)) = stat(client, container, path)
            && found.is_link()
        {
            wanted = resolve_link(path, &found.link_target);
        }
    }
    if target == "-" {
        let answer = client.get(container_path(container, "/archive")).query("path", &wanted).send()?;
        copy_raw(&mut answer.into_body())?;
        return Ok(0);
    }
    let target_kind = local_kind(target)?;
    if target_kind == Found::Nothing {
        let parent = Path::new(target.trim_end_matches('/'))
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(Error::new(format!(
                "invalid output path: directory {:?} does not exist",
                std::path::absolute(parent).unwrap_or(parent.to_owned()).display().to_string()
            )));
        }
    }
    let answer = client.get(container_path(container, "/archive")).query("path", &wanted).send()?;
    let found = Stat::decode(answer.header(STAT_HEADER))?;
    // Under the name that was asked for, also where a link was followed.
    let place = Place::of(path, found.kind(), target, target_kind)?;
    let options = unpack::Options { strip_root: base_name(&wanted).is_some(), keep_owner: parsed.on("archive") };
    let bytes = unpack::unpack(answer.into_body(), &place, options)?;
    report(parsed, bytes, target);
    Ok(0)
}

/// The target of a link, from the directory the link is in.
fn resolve_link(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    match link.trim_end_matches('/').rsplit_once('/') {
        Some((dir, _)) => format!("{dir}/{target}"),
        None => target.to_owned(),
    }
}

fn local_kind(path: &str) -> Result<Found> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(Found::Directory),
        Ok(_) => Ok(Found::File),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Nothing),
        // `file/` where file is one: the caller says what is wrong with it.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory && path.ends_with('/') => Ok(Found::File),
        Err(error) => Err(Error::file("cannot look at", Path::new(path))(error)),
    }
}

fn to_container(parsed: &Parsed, session: &Session, source: &str, container: &str, path: &str) -> Result<u8> {
    let client = session.client()?;
    let mut path = path.to_owned();
    let mut target_kind = Found::Nothing;
    // Links are followed by name so that the archive lands beside what they point to; the count bounds a circle.
    for _ in 0..10 {
        match stat(client, container, &path) {
            Ok(found) => {
                let found = found?;
                if found.is_link() && !found.link_target.is_empty() {
                    path = resolve_link(&path, &found.link_target);
                    continue;
                }
                target_kind = found.kind();
            }
            Err(error) if error.status().is_none() => return Err(error.into()),
            // An answer to HEAD says no more than its status; the upload will tell what is wrong, if anything is.
            Err(_) => {}
        }
        break;
    }
    let shown = format!("{container}:{path}");
    let put = |dir: &Path| {
        client
            .put(container_path(container, "/archive"))
            .query("path", &dir.display().to_string())
            .query("noOverwriteDirNonDir", "true")
            .query_opt("copyUIDGID", parsed.on("archive").then_some("true"))
    };
    if source == "-" {
        if target_kind != Found::Directory {
            return Err(Error::new(format!("destination \"{shown}\" must be a directory")));
        }
        load::send(put(Path::new(&path)), &mut std::io::stdin().lock())?.into_body().read_all(1 << 20)?;
        return Ok(0);
    }
    let tree = pack::Tree::open(source, parsed.on("follow-link"))?;
    let source_kind = if tree.is_directory() { Found::Directory } else { Found::File };
    let place = Place::of(source, source_kind, &path, target_kind)?;
    let parent = if place.parent.as_os_str() == "." { Path::new("/") } else { &place.parent };
    let upload = put(parent).header("Content-Type", "application/x-tar").upload()?;
    let (answer, bytes) = tree.send(upload, place.name.as_deref().unwrap_or("."))?;
    answer.into_body().read_all(1 << 20)?;
    report(parsed, bytes, &shown);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        assert_eq!(Side::parse("c:/p"), Side::Container("c", "/p"));
        assert_eq!(Side::parse("c:"), Side::Container("c", ""));
        for local in ["/a:b", "./a:b", "plain", "-", ":x"] {
            assert_eq!(Side::parse(local), Side::Local(local));
        }
    }

    #[test]
    fn places() {
        use Found::{Directory, File, Nothing};
        let place = |source, kind, target, target_kind| {
            Place::of(source, kind, target, target_kind)
                .map(|place| (place.parent.display().to_string(), place.name))
                .map_err(|error| error.to_string())
        };
        let ok = |parent: &str, name: Option<&str>| Ok((parent.to_owned(), name.map(str::to_owned)));
        assert_eq!(place("/a/f", File, "/d", Directory), ok("/d", Some("f")));
        assert_eq!(place("/a/d/.", Directory, "/d", Directory), ok("/d", None));
        assert_eq!(place("/", Directory, "/d", Directory), ok("/d", None));
        assert_eq!(place("/a/f", File, "/d/g", Nothing), ok("/d", Some("g")));
        assert_eq!(place("/a/f", File, "g", File), ok(".", Some("g")));
        assert_eq!(place("/a/d", Directory, "/d/new/", Nothing), ok("/d", Some("new")));
        assert_eq!(place("/a/d", Directory, "/d/f", File), Err("cannot copy directory".into()));
        assert_eq!(place("/a/f", File, "/d/new/", Nothing), Err("no such directory".into()));
        assert_eq!(resolve_link("/a/l", "t"), "/a/t");
        assert_eq!(resolve_link("/a/l", "/t"), "/t");
    }
}
