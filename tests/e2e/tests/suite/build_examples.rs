//! The examples, built by our client on our daemon and by Docker's on Docker's: configuration, history and every file of the
//! two images are compared.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use e2e::{Client, Daemon, Environment};
use serde_json::Value;

/// Those that need more than a directory.
const FLAGS: &[(&str, &[&str])] = &[
    ("from-args", &["--build-arg", "VERSION=2.0"]),
    ("run-mounts", &["--secret", "id=token,src=token"]),
    ("onbuild", &["--label", "from=the command line"]),
];

/// What only our front end has, and what comes of it.
const OURS: &[(&str, &[&str])] = &[(
    "copy-parents",
    &[
        "added/b/three.md",
        "added/b/two.txt",
        "added/readme.md",
        "excluded/a/one.txt",
        "parents/src/a/one.txt",
        "parents/src/b/two.txt",
        "pivot/a/one.txt",
    ],
)];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// An entry of an image, but for its time.
#[derive(Debug, PartialEq)]
struct File {
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    link: Option<PathBuf>,
    content: u64,
    size: u64,
    attributes: Vec<(String, Vec<u8>)>,
}

/// What engines put into a container's root themselves.
const ENGINES: [&str; 9] = [
    ".dockerenv",
    "dev",
    "proc",
    "sys",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/mtab",
    "run/.containerenv",
];

/// Every file of an image.
#[track_caller]
fn files(client: &Client, tag: &str) -> BTreeMap<PathBuf, File> {
    let id = client.run(&["create", "--network", "none", tag, "/nothing"]);
    let archive = tempfile::NamedTempFile::new().unwrap();
    client.run(&["export", "-o", archive.path().to_str().unwrap(), &id]);
    client.run(&["rm", "-v", &id]);
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(fs::File::open(archive.path()).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().components().collect::<PathBuf>();
        let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
        if path.as_os_str().is_empty() || ENGINES.iter().any(|own| path.starts_with(own)) || path == Path::new("etc") {
            continue;
        }
        let mut attributes = Vec::new();
        for extension in entry.pax_extensions().unwrap().into_iter().flatten().flatten() {
            if let Some(key) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
                attributes.push((key.to_owned(), extension.value_bytes().to_vec()));
            }
        }
        attributes.sort();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let hash = {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            content.hash(&mut hasher);
            hasher.finish()
        };
        let header = entry.header();
        let file = File {
            kind: header.entry_type(),
            mode: header.mode().unwrap() & 0o7777,
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            link: entry.link_name().unwrap().map(|link| {
                // Archives differ in how they name the root.
                if header.entry_type().is_hard_link() { link.components().collect() } else { link.into_owned() }
            }),
            content: hash,
            size: content.len() as u64,
            attributes,
        };
        found.insert(path, file);
    }
    found
}

fn said(client: &Client, tag: &str) -> (Value, Vec<String>) {
    let inspected = client.json(&["image", "inspect", tag])[0].clone();
    let history = client.run(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", tag]);
    let lines = history.lines().map(|line| match line.strip_prefix("HEALTHCHECK ") {
        // In words here, in Go's notation there.
        Some(_) => "HEALTHCHECK".to_owned(),
        None => line.to_owned(),
    });
    let known = ["Architecture", "Os", "Author", "Variant"];
    let mut about: serde_json::Map<String, Value> = known
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), inspected.get(*key)?.clone())))
        .filter(|(_, value)| value != "")
        .collect();
    about.insert("Config".to_owned(), inspected["Config"].clone());
    (about.into(), lines.collect())
}

/// Docker's client with its builder.
fn with_buildx(client: Client) -> Client {
    let peers = Environment::get().and_then(|environment| environment.peers.as_ref()).expect("peers are there");
    let plugins = client.config.join("cli-plugins");
    fs::create_dir_all(&plugins).unwrap();
    let _ = symlink(peers.buildx(), plugins.join("docker-buildx"));
    client
}

/// Builds a directory on both sides and compares; gives what is different.
fn compare(daemon: &Daemon, name: &str, dir: &Path, flags: &[&str]) -> Result<(), String> {
    let (ours, theirs) = (daemon.dhow(), with_buildx(daemon.twin()));
    let tag = format!("dhow-test-example-{}-{name}", daemon.pid());
    let flags: Vec<String> =
        flags.iter().map(|flag| flag.replace("src=", &format!("src={}/", dir.display()))).collect();
    for client in [&ours, &theirs] {
        let mut args = vec!["build", "--network=none", "--progress=plain", "-t", &tag];
        args.extend(flags.iter().map(String::as_str));
        args.push(dir.to_str().unwrap());
        let built = client.try_run(&args);
        if built.code != 0 {
            return Err(format!("{name}: {} cannot build it: {}", client.program.display(), built.stderr));
        }
    }
    // By the same client, which asks both for the same version of the API.
    let (ours_said, theirs_said) = (said(&daemon.docker(), &tag), said(&theirs, &tag));
    let (mut found, mut wanted) = (files(&ours, &tag), files(&theirs, &tag));
    theirs.try_run(&["rmi", &tag]);
    if ours_said != theirs_said {
        return Err(format!("{name}: ours   {ours_said:#?}\ntheirs {theirs_said:#?}"));
    }
    found.retain(|path, file| wanted.get(path) != Some(file) || wanted.remove(path).is_none());
    if found.is_empty() && wanted.is_empty() {
        Ok(())
    } else {
        Err(format!("{name}: ours {found:#?}\ntheirs {wanted:#?}"))
    }
}

#[track_caller]
fn report(failures: Vec<String>) {
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn dockerfiles_make_the_images_that_docker_makes() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox().debian();
    let mut names: Vec<String> = fs::read_dir(examples().join("dockerfile"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 15, "{names:?}");
    let mut failures = Vec::new();
    for name in &names {
        let dir = examples().join("dockerfile").join(name);
        let text = fs::read_to_string(dir.join("Dockerfile")).unwrap();
        assert!(text.lines().take(2).all(|line| line.starts_with("# ")), "{name} does not say what it shows");
        if let Some((_, wanted)) = OURS.iter().find(|(own, _)| own == name) {
            let client = daemon.dhow();
            client.run(&["build", "-q", "--network=none", "-t", name, dir.to_str().unwrap()]);
            let tops = ["added", "excluded", "parents", "pivot"];
            let found = files(&client, name);
            let found: Vec<String> = found
                .into_iter()
                .filter(|(path, file)| file.kind.is_file() && tops.iter().any(|top| path.starts_with(top)))
                .map(|(path, _)| path.display().to_string())
                .collect();
            if &found != wanted {
                failures.push(format!("{name}: {found:#?}"));
            }
            continue;
        }
        let flags = FLAGS.iter().find(|(own, _)| own == name).map_or(&[][..], |(_, flags)| flags);
        failures.extend(compare(&daemon, name, &dir, flags).err());
    }
    report(failures);
}

#[test]
fn an_image_of_triggers_is_built_upon() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let (ours, theirs) = (daemon.dhow(), with_buildx(daemon.twin()));
    let base = format!("dhow-test-triggers-{}", daemon.pid());
    let dir = examples().join("dockerfile/onbuild");
    for client in [&ours, &theirs] {
        client.run(&["build", "-q", "--network=none", "-t", &base, dir.to_str().unwrap()]);
    }
    let child = tempfile::tempdir().unwrap();
    fs::write(child.path().join("Dockerfile"), format!("FROM {base}\nRUN cat /built > /seen\n")).unwrap();
    let result = compare(&daemon, "triggered", child.path(), &["--build-arg", "MODE=debug"]);
    theirs.try_run(&["rmi", &base]);
    report(result.err().into_iter().collect());
}

#[test]
fn projects_make_the_images_that_docker_makes() {
    let Some(daemon) = Daemon::start() else { return };
    let fixtures = &daemon.environment.fixtures;
    let (ours, theirs) = (daemon.dhow(), daemon.twin());
    let mut failures = Vec::new();
    let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    for (archive, projects) in [
        ("devel.tar", &["c-program", "rust-program", "python-app"][..]),
        ("three-tier-base.tar", &["three-tier/db", "three-tier/app", "three-tier/proxy"][..]),
    ] {
        let archive = fixtures.join(archive);
        let base = format!("dhow-test-base-{}-{}", daemon.pid(), projects.len());
        for client in [&ours, &theirs] {
            client.run(&["import", "-c", path, archive.to_str().unwrap(), &base]);
        }
        let argument = format!("BASE={base}");
        for project in projects {
            let name = project.replace('/', "-");
            failures.extend(compare(&daemon, &name, &examples().join(project), &["--build-arg", &argument]).err());
        }
        theirs.try_run(&["rmi", &base]);
    }
    // They also do what they are for.
    for (project, args, wanted) in [
        ("c-program", &["you", "me"][..], "hello to each of you, you and me"),
        ("rust-program", &["a b", "b"][..], "2 b\n1 a"),
        ("python-app", &["4"][..], "2 3 5 7"),
    ] {
        let tag = format!("dhow-test-example-{}-{project}", daemon.pid());
        let said = ours.run(&[&["run", "--rm", "--network", "none", &tag], args].concat());
        if said != wanted {
            failures.push(format!("{project} said {said}"));
        }
    }
    report(failures);
}
