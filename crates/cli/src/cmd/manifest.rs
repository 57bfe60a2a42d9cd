//! `manifest`: lists that give one name to images for several platforms.
//!
//! The lists are the client's own, kept where Docker's client keeps them; the engine only speaks to registries.

mod lists;
mod registry;

use docker_types::oci;
use types::Reference;

use self::lists::{Entry, Lists};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Kind, Parsed},
    format::json,
    session::Session,
    term::output::print_line,
};

const INSECURE: Flag = Flag::switch("insecure", "Speak to the registry without TLS, or whoever it says it is");

pub(super) static CREATE: Command = Command {
    paths: &["manifest create"],
    synopsis: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    about: "Begin a list of manifests that are at a registry",
    flags: &[&[Flag::switch("amend", "Add to a list that is there").short('a'), INSECURE]],
    arity: Arity::AtLeast(2),
    interspersed: true,
    run: create,
};

pub(super) static ANNOTATE: Command = Command {
    paths: &["manifest annotate"],
    synopsis: "[OPTIONS] MANIFEST_LIST MANIFEST",
    about: "Change what a list says of one of its manifests",
    flags: &[&[
        Flag::text("arch", "Architecture"),
        Flag::text("os", "Operating system"),
        Flag::text("os-features", "Feature of the operating system").kind(Kind::Commas, "strings"),
        Flag::text("os-version", "Version of the operating system"),
        Flag::text("variant", "Variant of the architecture"),
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: annotate,
};

pub(super) static INSPECT: Command = Command {
    paths: &["manifest inspect"],
    synopsis: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    about: "Show a list or a manifest",
    flags: &[&[INSECURE, Flag::switch("verbose", "Show the manifests of a list with their platforms").short('v')]],
    arity: Arity::Between(1, 2),
    interspersed: true,
    run: inspect,
};

pub(super) static PUSH: Command = Command {
    paths: &["manifest push"],
    synopsis: "[OPTIONS] MANIFEST_LIST",
    about: "Upload a list to its registry",
    flags: &[&[INSECURE, Flag::switch("purge", "Remove the list here once it is there").short('p')]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: push,
};

pub(super) static RM: Command = Command {
    paths: &["manifest rm"],
    synopsis: "MANIFEST_LIST [MANIFEST_LIST...]",
    about: "Remove lists that were begun here",
    flags: &[],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: remove,
};

/// Pairs of operating system and architecture that a list may name, as Docker's client has them.
const PLATFORMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

fn reference(text: &str) -> Result<Reference> {
    Reference::parse(text).map(Reference::with_default_tag).map_err(|error| Error::new(error.to_string()))
}

/// As [`reference`], for a list or an image that an error names.
fn named(text: &str, what: &str) -> Result<Reference> {
    reference(text).map_err(|error| Error::new(format!("{what} {text}: {error}")))
}

fn no_such(reference: &Reference) -> Error {
    Error::new(format!("No such manifest: {reference}"))
}

fn create(parsed: &Parsed, session: &Session) -> Result<u8> {
    let list = named(parsed.first(), "error parsing name for manifest list")?;
    let lists = Lists::new(session.config()?.dir());
    if lists.all(&list)?.is_some() && !parsed.on("amend") {
        return Err(Error::new("refusing to amend an existing manifest list with no --amend flag"));
    }
    for text in &parsed.args[1..] {
        let image = reference(text)?;
        let entry = match lists.get(&list, &image)?.filter(|entry| !entry.raw.is_empty()) {
            Some(entry) => entry,
            None => {
                let entry = registry::fetch(session, &image, parsed.on("insecure"))?;
                if registry::is_index(&entry) {
                    return Err(Error::new(format!("{image} is a manifest list")));
                }
                entry
            }
        };
        lists.save(&list, &image, &entry)?;
    }
    print_line(&format!("Created manifest list {list}"))?;
    Ok(0)
}

fn annotate(parsed: &Parsed, session: &Session) -> Result<u8> {
    let list = named(parsed.first(), "annotate: error parsing name for manifest list")?;
    let image = named(&parsed.args[1], "annotate: error parsing name for manifest")?;
    let lists = Lists::new(session.config()?.dir());
    let mut entry = lists.get(&list, &image)?.ok_or_else(|| {
        Error::new(format!("manifest for image {} does not exist in {}", parsed.args[1], parsed.first()))
    })?;
    let platform = entry.descriptor.platform.get_or_insert_default();
    for (flag, field) in [
        ("os", &mut platform.os),
        ("arch", &mut platform.architecture),
        ("variant", &mut platform.variant),
        ("os-version", &mut platform.os_version),
    ] {
        if !parsed.text(flag).is_empty() {
            parsed.text(flag).clone_into(field);
        }
    }
    for feature in parsed.list("os-features") {
        if !platform.os_features.iter().any(|known| known == feature) {
            platform.os_features.push(feature.to_owned());
        }
    }
    let architectures = PLATFORMS.iter().find(|(os, _)| *os == platform.os).map_or(&[][..], |(_, known)| known);
    if !architectures.contains(&platform.architecture.as_str()) {
        return Err(Error::new(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            parsed.text("os"),
            parsed.text("arch")
        )));
    }
    lists.save(&list, &image, &entry)?;
    Ok(0)
}

fn inspect(parsed: &Parsed, session: &Session) -> Result<u8> {
    let lists = Lists::new(session.config()?.dir());
    let (insecure, verbose) = (parsed.on("insecure"), parsed.on("verbose"));
    if let [list, image] = parsed.args.as_slice() {
        let image = reference(image)?;
        let entry = lists.get(&reference(list)?, &image)?.ok_or_else(|| no_such(&image))?;
        return print_one(&entry, verbose);
    }
    let name = reference(parsed.first())?;
    if let Some(entries) = lists.all(&name)? {
        return print_list(&name, &entries, verbose);
    }
    let entry = registry::fetch(session, &name, insecure)?;
    if !registry::is_index(&entry) {
        return print_one(&entry, verbose);
    }
    print_list(&name, &registry::fetch_parts(session, &name, &entry, insecure)?, verbose)
}

fn print_one(entry: &Entry, verbose: bool) -> Result<u8> {
    let text = match verbose {
        true => json::indent_by(&encoded(entry)?, "", "\t"),
        false => json::indent_by(&String::from_utf8_lossy(&entry.document()?), "", "\t"),
    };
    print_line(&text)?;
    Ok(0)
}

fn print_list(name: &Reference, entries: &[Entry], verbose: bool) -> Result<u8> {
    let text = match verbose {
        true => json::indent_by(&encoded(entries)?, "", "\t"),
        false => {
            assembled(name, entries)
                .map_err(|error| Error::new(format!("failed to assemble ManifestDescriptor: {error}")))?
                .1
        }
    };
    print_line(&text)?;
    Ok(0)
}

fn encoded<T: serde::Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::new(error.to_string()))
}

/// One manifest of a list, with the members in the order Docker's client writes them.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    media_type: &'a str,
    size: i64,
    digest: &'a str,
    platform: oci::Platform,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    schema_version: u8,
    media_type: &'a str,
    manifests: Vec<Part<'a>>,
}

/// The list as it goes to the registry, with its media type: the same bytes that Docker's client makes of it.
fn assembled(name: &Reference, entries: &[Entry]) -> Result<(&'static str, String)> {
    let mut manifests = Vec::with_capacity(entries.len());
    for entry in entries {
        let image = entry.reference()?;
        if image.domain() != name.domain() {
            let (one, other) = (image.domain(), name.domain());
            return Err(Error::new(format!(
                "cannot use source images from a different registry than the target image: {one} != {other}"
            )));
        }
        let descriptor = &entry.descriptor;
        manifests.push(Part {
            media_type: &descriptor.media_type,
            size: descriptor.size,
            digest: &descriptor.digest,
            platform: descriptor.platform.clone().unwrap_or_default(),
        });
    }
    let media_type = match manifests.first() {
        Some(first) if first.media_type == registry::OCI_MANIFEST => registry::OCI_INDEX,
        _ => registry::DOCKER_LIST,
    };
    let text = encoded(&List { schema_version: 2, media_type, manifests })?;
    // Go writes these three as escapes.
    let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    Ok((media_type, json::indent_by(&text, "", "   ")))
}

fn push(parsed: &Parsed, session: &Session) -> Result<u8> {
    let name = reference(parsed.first())?;
    let lists = Lists::new(session.config()?.dir());
    let entries = lists.all(&name)?.ok_or_else(|| no_such(&name))?;
    if entries.is_empty() {
        return Err(Error::new(format!("{name} not found")));
    }
    for entry in &entries {
        let platform = entry.descriptor.platform.as_ref();
        if platform.is_none_or(|platform| platform.os.is_empty() || platform.architecture.is_empty()) {
            let image = entry.reference()?;
            return Err(Error::new(format!(
                "manifest {image} must have an OS and Architecture to be pushed to a registry"
            )));
        }
    }
    let (media_type, list) = assembled(&name, &entries)?;
    let insecure = parsed.on("insecure");
    for entry in &entries {
        let image = entry.reference()?;
        if image.name() == name.name() {
            continue;
        }
        // A list names manifests of its own repository only.
        let digest = entry.descriptor.digest.parse().map_err(|error: types::DigestError| {
            Error::new(format!("digest parse of image \"{image}\" failed: {error}"))
        })?;
        let target = name.with_digest(digest);
        let put = registry::Put { media_type: &entry.descriptor.media_type, from: Some(&image.name()), insecure };
        let digest = put.send(session, &target, &entry.document()?)?;
        print_line(&format!("Pushed ref {target} with digest: {digest}"))?;
    }
    let put = registry::Put { media_type, from: None, insecure };
    print_line(&put.send(session, &name, list.as_bytes())?)?;
    if parsed.on("purge") {
        lists.remove(&name)?;
    }
    Ok(0)
}

fn remove(parsed: &Parsed, session: &Session) -> Result<u8> {
    let lists = Lists::new(session.config()?.dir());
    let mut failures = Vec::new();
    for text in &parsed.args {
        let removed = reference(text).and_then(|name| match lists.remove(&name)? {
            true => Ok(()),
            false => Err(no_such(&name)),
        });
        failures.extend(removed.err().map(|error| error.to_string()));
    }
    match failures.is_empty() {
        true => Ok(0),
        false => Err(Error::new(failures.join("\n"))),
    }
}

#[cfg(test)]
mod tests;
