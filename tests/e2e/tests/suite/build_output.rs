//! What becomes of a build's result, with the unmodified docker client and its buildx plugin: files and archives at the
//! client's, images at a registry, the same image whenever it is built, statements about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use e2e::{Client, Daemon};
use serde_json::{Value, json};

use crate::build::with_buildx;
use crate::registry::Registry;

/// Files of every kind a client may get, in a result without anything else.
const FILES: &str = r#"FROM busybox AS make
RUN mkdir -p /out/d/deep /out/empty && echo one > /out/d/one && ln /out/d/one /out/d/same && ln -s one /out/d/link && \
    chmod 4750 /out/d/one && mkfifo /out/pipe && dd if=/dev/zero of=/out/big bs=1k count=700 && touch -d @1000 /out/d/deep && \
    echo '#' > '/out/a name' && echo x > /out/d.x
FROM scratch
COPY --from=make /out /
"#;

/// A platform's own file, without running anything.
const PLATFORMS: &str = "FROM scratch\nARG TARGETARCH\nCOPY f /only-$TARGETARCH\n";

struct Bench {
    daemon: Daemon,
    client: Client,
    dir: tempfile::TempDir,
}

impl Bench {
    fn start() -> Option<Self> {
        let daemon = Daemon::start()?;
        daemon.busybox();
        let client = with_buildx(daemon.docker());
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ctx")).unwrap();
        fs::write(dir.path().join("ctx/f"), "file\n").unwrap();
        Some(Self { daemon, client, dir })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, client: &Client, dockerfile: &str, args: &[&str]) -> e2e::Output {
        fs::write(self.dir.path().join("Dockerfile"), dockerfile).unwrap();
        let (file, context) = (self.path("Dockerfile"), self.path("ctx"));
        let mut all = vec!["build", "--network", "none", "--progress", "plain", "-f", &file];
        all.extend(args);
        all.push(&context);
        client.try_run(&all)
    }

    #[track_caller]
    fn build(&self, dockerfile: &str, args: &[&str]) -> String {
        let output = self.command(&self.client, dockerfile, args);
        output.expect_code(0);
        output.stderr.clone()
    }

    #[track_caller]
    fn refused(&self, dockerfile: &str, args: &[&str], words: &str) {
        self.command(&self.client, dockerfile, args).expect_error(1, words);
    }
}

/// What is in a directory: kind, permissions, links, sizes and times.
fn listed(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in fs::read_dir(&at).unwrap().map(Result::unwrap) {
            let stat = fs::symlink_metadata(entry.path()).unwrap();
            let kind = stat.file_type();
            let mut text = format!(
                "{:o} {} links {}",
                stat.permissions().mode(),
                stat.len() * u64::from(!kind.is_dir()),
                stat.nlink()
            );
            if kind.is_symlink() {
                text += &format!(" -> {}", fs::read_link(entry.path()).unwrap().display());
            } else if kind.is_dir() {
                text = format!("{:o} directory", stat.permissions().mode());
                pending.push(entry.path());
            } else if kind.is_fifo() {
                text += " pipe";
            }
            found.insert(entry.path().strip_prefix(dir).unwrap().to_str().unwrap().to_owned(), text);
        }
    }
    found
}

/// Members of an archive with what is said of them, but for the times of what the build made.
fn members(path: &str) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let link = entry.link_name().unwrap().map(|link| link.display().to_string());
        let text = format!(
            "{:?} {:o} {}:{} {} {link:?}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.size().unwrap()
        );
        found.insert(entry.path().unwrap().display().to_string(), text);
    }
    found
}

/// A member of an archive.
fn member(path: &str, name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() == Path::new(name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            return bytes;
        }
    }
    panic!("{path} has no {name}");
}

/// The document that a descriptor names, of an archive in the OCI layout.
fn document(path: &str, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
    serde_json::from_slice(&member(path, &format!("blobs/{digest}"))).unwrap()
}

/// The one image of an archive in the OCI layout.
fn target(path: &str) -> Value {
    let index: Value = serde_json::from_slice(&member(path, "index.json")).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
    index["manifests"][0].clone()
}

/// The manifest of its image: clients ask for an index with a provenance by themselves.
fn manifest(path: &str) -> Value {
    let index = document(path, &target(path));
    document(path, &index["manifests"][0])
}

#[test]
fn files_come_to_the_client_as_from_docker() {
    let Some(bench) = Bench::start() else { return };
    let theirs = with_buildx(bench.daemon.twin());
    let ours = (bench.path("ours"), bench.path("ours.tar"));
    let (local, archive) = (format!("type=local,dest={}", ours.0), format!("type=tar,dest={}", ours.1));
    // Several outputs of one build.
    bench.build(FILES, &["-o", &local, "-o", &archive]);
    let twin = (bench.path("theirs"), bench.path("theirs.tar"));
    for output in [format!("type=local,dest={}", twin.0), format!("type=tar,dest={}", twin.1)] {
        bench.command(&theirs, FILES, &["-o", &output]).expect_code(0);
    }
    assert_eq!(listed(Path::new(&ours.0)), listed(Path::new(&twin.0)));
    assert_eq!(fs::read(Path::new(&ours.0).join("d/one")).unwrap(), b"one\n");
    assert_eq!(fs::metadata(Path::new(&ours.0).join("d/deep")).unwrap().mtime(), 1000);
    assert_eq!(members(&ours.1), members(&twin.1));
    // What is there already stays, unless the result has it.
    fs::write(Path::new(&ours.0).join("mine"), "kept").unwrap();
    fs::write(Path::new(&ours.0).join("d/one"), "changed").unwrap();
    bench.build(FILES, &["-o", &local]);
    assert_eq!(fs::read(Path::new(&ours.0).join("mine")).unwrap(), b"kept");
    assert_eq!(fs::read(Path::new(&ours.0).join("d/one")).unwrap(), b"one\n");
    // To standard output.
    fs::write(bench.dir.path().join("Dockerfile"), FILES).unwrap();
    let (file, context) = (bench.path("Dockerfile"), bench.path("ctx"));
    let mut command = bench.client.command(&["build", "-q", "--network", "none", "-f", &file, "-o", "-", &context]);
    let piped = command.output().unwrap();
    assert!(piped.status.success());
    assert_eq!(piped.stdout, fs::read(&ours.1).unwrap());
}

#[test]
fn platforms_have_directories_of_their_own() {
    let Some(bench) = Bench::start() else { return };
    let (dir, archive, oci) = (bench.path("dir"), bench.path("files.tar"), bench.path("oci.tar"));
    let several = ["--platform", "linux/amd64,linux/arm64"];
    let build = |outputs: &[&str]| bench.build(PLATFORMS, &[&several[..], outputs].concat());
    build(&["-o", &format!("type=local,dest={dir}"), "-o", &format!("type=tar,dest={archive}")]);
    let wanted = ["linux_amd64", "linux_amd64/only-amd64", "linux_arm64", "linux_arm64/only-arm64"];
    assert_eq!(listed(Path::new(&dir)).into_keys().collect::<Vec<_>>(), wanted);
    let names: Vec<String> = members(&archive).into_keys().map(|name| name.trim_end_matches('/').to_owned()).collect();
    assert_eq!(names, wanted);
    let flat = bench.path("flat");
    build(&["-o", &format!("type=local,dest={flat},platform-split=false")]);
    assert_eq!(listed(Path::new(&flat)).into_keys().collect::<Vec<_>>(), ["only-amd64", "only-arm64"]);
    let split = format!("type=local,dest={flat},platform-split=false");
    bench.refused(
        "FROM scratch\nCOPY f /\n",
        &[&several[..], &["-o", &split]].concat(),
        "in the results of several platforms",
    );
    build(&["-t", "several:1", "-o", &format!("type=oci,dest={oci}")]);
    let index = document(&oci, &target(&oci));
    let platforms: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|m| m["platform"]["architecture"].clone()).collect();
    assert_eq!(platforms, ["amd64", "arm64", "unknown", "unknown"]);
    bench.client.run(&["load", "-i", &oci]);
    let shown = bench.client.json(&["image", "inspect", "--platform", "linux/arm64", "several:1"]);
    assert_eq!(shown[0]["Architecture"], "arm64");
    let docker = format!("type=docker,dest={oci}");
    bench.refused(PLATFORMS, &[&several[..], &["-o", &docker]].concat(), "docker");
}

#[test]
fn archives_are_loaded_elsewhere() {
    let Some(bench) = Bench::start() else { return };
    let theirs = bench.daemon.twin();
    let dockerfile = "FROM busybox\nRUN echo said > /said\nCMD [\"cat\", \"/said\"]\n";
    let (docker, oci) = (bench.path("docker.tar"), bench.path("oci.tar"));
    let tag = format!("dhow-test-archive-{}", bench.daemon.pid());
    bench.build(dockerfile, &["-t", &tag, "-o", &format!("type=docker,dest={docker}")]);
    theirs.run(&["load", "-i", &docker]);
    assert_eq!(theirs.run(&["run", "--rm", "--network", "none", &tag]), "said");
    theirs.run(&["rmi", &tag]);
    // Nothing of it is in the store, and another reader takes the layout.
    bench.client.try_run(&["image", "inspect", &tag]).expect_code(1);
    bench.build(dockerfile, &["-t", &tag, "-o", &format!("type=oci,dest={oci}")]);
    let copied = format!("docker-archive:{}:copied:1", bench.path("copied.tar"));
    let copy = Command::new("skopeo").args(["copy", "-q", &format!("oci-archive:{oci}"), &copied]).status();
    assert!(copy.expect("skopeo runs").success());
    bench.client.run(&["load", "-i", &bench.path("copied.tar")]);
    assert_eq!(bench.client.run(&["run", "--rm", "--network", "none", "copied:1"]), "said");
    // The same as a directory, to which a second build only adds; the index is the client's.
    let directory = bench.path("oci");
    for _ in 0..2 {
        bench.build(dockerfile, &["-t", &tag, "-o", &format!("type=oci,dest={directory},tar=false")]);
    }
    let index = fs::read(Path::new(&directory).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"][0]["digest"], target(&oci)["digest"]);
    let copied = format!("docker-archive:{}:copied:2", bench.path("copied-again.tar"));
    let copy = Command::new("skopeo").args(["copy", "-q", &format!("oci:{directory}"), &copied]).status();
    assert!(copy.expect("skopeo runs").success());
    for layer in manifest(&oci)["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    for (options, kinds) in [
        ("compression=zstd,compression-level=5", ["zstd", "zstd"]),
        ("compression=uncompressed", ["tar", "tar"]),
        ("oci-mediatypes=false", ["gzip", "gzip"]),
    ] {
        bench.build(dockerfile, &["-o", &format!("type=oci,dest={oci},{options}")]);
        let manifest = manifest(&oci);
        let layers = manifest["layers"].as_array().unwrap();
        for (layer, kind) in layers.iter().zip(kinds) {
            assert!(layer["mediaType"].as_str().unwrap().ends_with(kind), "{options}: {manifest}");
            // The blob is what it is said to be.
            let digest = layer["digest"].as_str().unwrap().replace(':', "/");
            let bytes = member(&oci, &format!("blobs/{digest}"));
            let magic: &[u8] = match kind {
                "zstd" => &[0x28, 0xb5, 0x2f, 0xfd],
                "gzip" => &[0x1f, 0x8b],
                _ => &[],
            };
            assert!(bytes.starts_with(magic) && bytes.len() as u64 == layer["size"].as_u64().unwrap());
        }
    }
    let annotated = format!("type=oci,dest={oci},annotation.one=1,annotation-manifest-descriptor.two=2");
    bench.build(dockerfile, &["--provenance=false", "-o", &annotated]);
    let descriptor = target(&oci);
    assert_eq!(descriptor["annotations"]["two"], "2");
    assert_eq!(document(&oci, &descriptor)["annotations"], json!({ "one": "1" }));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_built() {
    let Some(bench) = Bench::start() else { return };
    let dest = bench.path("none");
    let fails = "FROM busybox\nRUN exit 9\n";
    for (output, words) in [
        (format!("type=local,dest={dest},bogus=1"), "no option bogus"),
        (format!("type=oci,dest={dest},compression=estargz"), "compression=estargz"),
        (format!("type=oci,dest={dest},compression=lzw"), "it is uncompressed, gzip or zstd"),
        (format!("type=oci,dest={dest},compression=gzip,compression-level=77"), "levels are 1 to 9"),
        (format!("type=oci,dest={dest},force-compression=true"), "it needs compression=TYPE"),
        (format!("type=tar,dest={dest},platform-split=perhaps"), "true or false"),
        (String::from("type=image,name=A B"), "invalid"),
    ] {
        bench.refused(fails, &["-o", &output], words);
    }
    let index = format!("type=oci,dest={dest},annotation-index.a=b");
    bench.refused("FROM busybox\n", &["--provenance=false", "-o", &index], "annotation a is for an index");
    // A client that cannot store what it gets says why.
    bench.refused(FILES, &["-o", "type=tar,dest=/dev/full"], "the client cannot store the output");
}

#[test]
fn images_go_to_a_registry_compressed() {
    let Some(bench) = Bench::start() else { return };
    let registry = Registry::start();
    let dockerfile = "FROM busybox\nRUN echo pushed > /said\nCMD [\"cat\", \"/said\"]\n";
    let name = |rest: &str| format!("{}/{rest}", registry.address);
    let pushed = name("team/app:1");
    bench.build(dockerfile, &["--provenance=false", "--push", "-t", &pushed]);
    let raw = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{pushed}")])
        .output()
        .expect("skopeo runs");
    let manifest: Value = serde_json::from_slice(&raw.stdout).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    // What is here is what is there, and does not have to come again.
    let digest =
        |name: &str| bench.client.json(&["image", "inspect", name])[0]["RepoDigests"][0].as_str().unwrap().to_owned();
    let first = digest(&pushed);
    assert!(bench.client.run(&["pull", &pushed]).contains("up to date"));
    bench.client.run(&["rmi", &pushed]);
    bench.client.run(&["pull", &pushed]);
    assert_eq!(digest(&pushed), first);
    assert_eq!(bench.client.run(&["run", "--rm", "--network", "none", &pushed]), "pushed");
    // Only there.
    let only = name("team/app:only");
    let kept = || fs::read_dir(bench.daemon.data_root().join("content/blobs/sha256")).unwrap().count();
    let before = kept();
    bench.build(dockerfile, &["-o", &format!("type=registry,name={only},store=false,compression=zstd")]);
    bench.client.try_run(&["image", "inspect", &only]).expect_code(1);
    assert_eq!(kept(), before);
    bench.client.run(&["pull", &only]);
    assert_eq!(bench.client.run(&["run", "--rm", "--network", "none", &only]), "pushed");
    bench.refused(dockerfile, &["--push", "-t", "127.0.0.1:1/x:1"], "failed to push 127.0.0.1:1/x:1");
}

#[test]
fn the_same_image_whenever_it_is_built() {
    let Some(bench) = Bench::start() else { return };
    let dockerfile = "FROM busybox\nRUN date +%s%N > /dev/null; mkdir /made && echo same > /made/f && touch -d @100 /made/old\nCOPY f /copied\n";
    let mut digests = BTreeSet::new();
    let mut archives = BTreeSet::new();
    for round in 0..2 {
        let oci = bench.path(&format!("{round}.tar"));
        let args =
            |output: &'static str| vec!["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-o", output];
        bench.build(dockerfile, &args("type=image,name=same:1,rewrite-timestamp=true"));
        digests.insert(bench.client.run(&["image", "inspect", "-f", "{{.Id}}", "same:1"]));
        let output = format!("type=oci,dest={oci},rewrite-timestamp=true,name=same:1");
        let mut args = args("");
        *args.last_mut().unwrap() = &output;
        bench.build(dockerfile, &args);
        archives.insert(fs::read(&oci).unwrap());
        // Files made a second later have another time.
        fs::write(bench.dir.path().join("ctx/f"), "file\n").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert_eq!((digests.len(), archives.len()), (1, 1));
    let script = "stat -c %Y /made /made/f /made/old /copied";
    let times = bench.client.run(&["run", "--rm", "--network", "none", "same:1", "sh", "-c", script]);
    assert_eq!(times.lines().collect::<Vec<_>>(), ["1700000000", "1700000000", "100", "1700000000"]);
    let created = bench.client.json(&["image", "inspect", "same:1"])[0]["Created"].clone();
    assert_eq!(created, "2023-11-14T22:13:20Z");
    // Without rewriting, times are those that Docker gives: of the image and its steps, not of the files.
    let theirs = with_buildx(bench.daemon.twin());
    let tag = format!("dhow-test-epoch-{}", bench.daemon.pid());
    let times = |client: &Client| {
        let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-t", &tag];
        bench.command(client, dockerfile, &epoch).expect_code(0);
        let history = client.run(&["history", "--human=false", "--format", "{{.CreatedAt}} {{.Comment}}", &tag]);
        let own: Vec<String> = history.lines().filter(|line| line.contains("buildkit")).map(str::to_owned).collect();
        let created = client.run(&["image", "inspect", "-f", "{{.Created}}", &tag]);
        let file = client.run(&["run", "--rm", "--network", "none", &tag, "stat", "-c", "%Y", "/made/old"]);
        client.run(&["rmi", &tag]);
        (created, own, file)
    };
    assert_eq!(times(&bench.client), times(&theirs));
    // Files at the client's have it as well.
    let dir = bench.path("dir");
    bench.build(FILES, &["--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-o", &format!("type=local,dest={dir}")]);
    assert_eq!(fs::metadata(Path::new(&dir).join("d/one")).unwrap().mtime(), 1_700_000_000);
    bench.refused("FROM busybox\n", &["--build-arg", "SOURCE_DATE_EPOCH=yesterday"], "SOURCE_DATE_EPOCH");
}

/// What an index says beside its images: predicates by their types, of the statements about the first image.
fn predicates(path: &str) -> BTreeMap<String, Value> {
    let index = document(path, &target(path));
    let manifests = index["manifests"].as_array().unwrap();
    let about = |manifest: &&Value| manifest["annotations"]["vnd.docker.reference.type"] == "attestation-manifest";
    let attestation = manifests.iter().find(about).expect("an attestation");
    assert_eq!(attestation["annotations"]["vnd.docker.reference.digest"], manifests[0]["digest"]);
    let layers = document(path, attestation)["layers"].as_array().unwrap().clone();
    let of = |layer: &Value| {
        let statement = document(path, layer);
        let digest = manifests[0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], digest);
        assert_eq!(statement["predicateType"], layer["annotations"]["in-toto.io/predicate-type"]);
        (statement["predicateType"].as_str().unwrap().to_owned(), statement["predicate"].clone())
    };
    layers.iter().map(of).collect()
}

#[test]
fn results_come_with_statements_about_them() {
    let Some(bench) = Bench::start() else { return };
    let registry = Registry::start();
    let token = format!("dhow-planted-{}", bench.daemon.pid());
    let secret = bench.path("token");
    fs::write(&secret, &token).unwrap();
    // A database that says what is installed.
    let database = "P:musl\\nV:1.2.5-r0\\nA:x86_64\\nL:MIT\\n\\n";
    let dockerfile = format!(
        "FROM busybox\nARG PLAIN=1\nRUN --mount=type=secret,id=token,required=true mkdir -p /lib/apk/db && \
         printf '{database}' > /lib/apk/db/installed && echo $PLAIN > /said\nCMD [\"cat\", \"/said\"]\n"
    );
    let source = format!("id=token,src={secret}");
    let common = ["--secret", source.as_str(), "--build-arg", "PLAIN=visible"];
    let build = |args: &[&str]| bench.build(&dockerfile, &[&common[..], args].concat());
    let id = |name: &str| bench.client.run(&["image", "inspect", "-f", "{{.Id}}", name]);

    // What nobody asked for is not made, and nothing changes where nothing did.
    build(&["-t", "plain:1"]);
    build(&["-t", "plain:2"]);
    assert_eq!(id("plain:1"), id("plain:2"));
    build(&["-t", "plain:3", "--provenance=false"]);
    assert_eq!(id("plain:1"), id("plain:3"));

    // In short, the same again, and an image like any other.
    let attested = ["-t", "attested:1", "--provenance=mode=min", "--sbom=true"];
    build(&attested);
    let first = id("attested:1");
    build(&attested);
    assert_eq!(id("attested:1"), first);
    assert_ne!(first, id("plain:1"));
    assert_eq!(bench.client.run(&["run", "--rm", "--network", "none", "attested:1"]), "visible");
    let saved = bench.path("saved.tar");
    bench.client.run(&["save", "-o", &saved, "attested:1"]);
    let found = predicates(&saved);
    let short = &found["https://slsa.dev/provenance/v0.2"];
    assert_eq!(short["invocation"]["parameters"]["frontend"], "dockerfile.v0");
    assert!(short["materials"][0]["uri"].as_str().unwrap().starts_with("pkg:docker/busybox@latest?platform="));
    for absent in ["visible", "buildInvocationID", "buildStartedOn", "\"token\""] {
        assert!(!short.to_string().contains(absent), "{absent}: {short}");
    }
    let packages = found["https://spdx.dev/Document"]["packages"].as_array().unwrap();
    let musl = packages.iter().find(|package| package["name"] == "musl").unwrap();
    assert_eq!(
        (&musl["versionInfo"], &musl["licenseComments"]),
        (&json!("1.2.5-r0"), &json!("The package declares: MIT"))
    );
    bench.client.run(&["tag", "attested:1", "attested:2"]);
    for name in ["attested:1", "attested:2"] {
        bench.client.run(&["rmi", name]);
    }
    bench.client.run(&["load", "-i", &saved]);
    assert_eq!(id("attested:1"), first);

    // To a registry goes what clients ask for by themselves.
    let pushed = format!("{}/team/attested:1", registry.address);
    build(&["--push", "-t", &pushed]);
    let provenance = bench.client.run(&[
        "buildx",
        "imagetools",
        "inspect",
        &pushed,
        "--format",
        "{{json .Provenance.SLSA.buildType}}",
    ]);
    assert_eq!(provenance, "\"https://mobyproject.org/buildkit@v1\"");
    bench.client.run(&["rmi", &pushed]);
    bench.client.run(&["pull", &pushed]);
    assert_eq!(bench.client.run(&["run", "--rm", "--network", "none", &pushed]), "visible");
    // And what was made here goes with its image later, too.
    let later = format!("{}/team/attested:2", registry.address);
    bench.client.run(&["tag", "attested:1", &later]);
    let told = bench.client.run(&["push", &later]);
    assert!(told.contains(&first), "{told}");

    // In full, with everything but secrets.
    let oci = bench.path("oci.tar");
    let output = format!("type=oci,dest={oci}");
    build(&["-o", &output, "--provenance=mode=max,version=v1,builder-id=https://builder.example"]);
    let full = predicates(&oci)["https://slsa.dev/provenance/v1"].clone();
    assert_eq!(full["runDetails"]["builder"]["id"], "https://builder.example");
    let request = &full["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:PLAIN"], "visible");
    assert_eq!(request["secrets"], json!([{ "id": "token" }]));
    assert!(
        full["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"].as_array().unwrap().len() >= 2
    );
    assert!(full["runDetails"]["metadata"]["startedOn"].is_string());
    assert!(!full.to_string().contains(&token));

    // As files beside the files.
    let dir = bench.path("dir");
    let files = "FROM scratch\nCOPY f /\n";
    let output = format!("type=local,dest={dir},attestation-prefix=about-");
    bench.build(files, &["-o", &output, "--sbom=true", "--provenance=mode=min"]);
    let read =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(Path::new(&dir).join(name)).unwrap()).unwrap() };
    for name in ["about-provenance.json", "about-sbom.spdx.json"] {
        assert_eq!(read(name)["subject"][0]["name"], "f", "{name}");
    }
    let output = format!("type=tar,dest={oci}");
    bench.build(files, &["-o", &output, "--sbom=true"]);
    assert_eq!(members(&oci).into_keys().collect::<Vec<_>>(), ["f", "sbom.spdx.json"]);
    // Nobody asked for these.
    bench.build(files, &["-o", &output]);
    assert_eq!(members(&oci).into_keys().collect::<Vec<_>>(), ["f"]);

    let found = Command::new("grep").args(["-rlF", &token]).arg(bench.daemon.data_root()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    bench.refused(files, &["--sbom=generator=some/scanner"], "some/scanner");
    bench.refused(files, &["--provenance=mode=most"], "mode=most");
}
