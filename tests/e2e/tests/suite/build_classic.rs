//! `POST /build`: the docker client without BuildKit, and archives that nobody's client would send.

use std::fs;

use e2e::{Client, Daemon};

use crate::build::{assert_nothing_stays, context};

fn classic(client: &Client, args: &[&str]) -> e2e::Output {
    let mut command = client.command(args);
    command.env("DOCKER_BUILDKIT", "0");
    e2e::clients::finish(command, args, None)
}

#[test]
fn the_client_without_buildkit_builds() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let dir = context(
        "FROM busybox AS first\nRUN echo made > /made\nFROM busybox\nARG A=1\nCOPY --from=first /made /\nCOPY . /all/\n\
         ENV A=$A\nWORKDIR /w\nCMD [\"cat\", \"/made\"]\n",
    );
    let path = dir.path().to_str().unwrap();
    let client = daemon.docker();
    let args =
        ["build", "--network", "none", "--build-arg", "A=2", "--label", "l=v", "-t", "old:1", "-t", "old:2", path];
    let built = classic(&client, &args);
    built.expect_code(0);
    for text in [
        "Step 1/",
        " : RUN echo made > /made",
        "Successfully built ",
        "Successfully tagged old:1",
        "Successfully tagged old:2",
    ] {
        assert!(built.stdout.contains(text), "{text}: {}", built.stdout);
    }
    let inspect = client.json(&["image", "inspect", "old:2"]);
    assert_eq!(inspect[0]["Config"]["Labels"]["l"], "v");
    assert_eq!(inspect[0]["Config"]["WorkingDir"], "/w");
    assert!(inspect[0]["Config"]["Env"].as_array().unwrap().iter().any(|env| env == "A=2"));
    assert_eq!(client.run(&["run", "--rm", "--network", "none", "old:1"]), "made");
    let all = client.run(&["run", "--rm", "--network", "none", "old:1", "ls", "-A", "/all"]);
    assert_eq!(all, ".dockerignore\nDockerfile\na.cfg\narch.tar\nb.cfg\ndir\none.txt");
    // Known already, and the id alone.
    let again = classic(&client, &["build", "--network", "none", "--build-arg", "A=2", "--label", "l=v", path]);
    assert!(again.stdout.contains(" ---> Using cache"), "{}", again.stdout);
    let quiet = classic(&client, &["build", "-q", "--network", "none", "--build-arg", "A=2", "--label", "l=v", path]);
    assert_eq!(quiet.stdout.trim(), inspect[0]["Id"].as_str().unwrap());
    // A Dockerfile from standard input, without a context.
    let mut command = client.command(&["build", "-q", "-"]);
    command.env("DOCKER_BUILDKIT", "0");
    e2e::clients::finish(command, &["build", "-q", "-"], Some(b"FROM busybox\nENV from=stdin\n")).expect_code(0);
    assert_nothing_stays(&daemon);
}

#[test]
fn what_is_wrong_is_said_in_the_stream() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let client = daemon.docker();
    for (dockerfile, words) in [
        ("FROM busybox\nRUN echo said; exit 3\n", "did not complete successfully: exit code: 3"),
        ("FROM busybox\nRUNN x\n", "unknown instruction: RUNN"),
        ("FROM busybox\nCOPY nowhere /x\n", "\"/nowhere\": not found"),
    ] {
        let dir = context(dockerfile);
        let failed = classic(&client, &["build", "--network", "none", "-t", "failed", dir.path().to_str().unwrap()]);
        failed.expect_error(1, words);
        if words.starts_with("did not") {
            assert!(failed.stdout.contains("said"), "{}", failed.stdout);
        }
    }
    let dir = context("FROM busybox\nRUN --mount=type=secret,id=x,required=true true\n");
    let path = dir.path().to_str().unwrap();
    classic(&client, &["build", path]).expect_error(1, "secret x: not found");
    classic(&client, &["build", "--memory", "64m", path])
        .expect_error(1, "the parameter memory of builds is not supported");
    client.try_run(&["image", "inspect", "failed"]).expect_code(1);
    assert_nothing_stays(&daemon);
}

#[test]
fn hostile_archives_stay_in_their_directory() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let outside = tempfile::tempdir().unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, link: Option<&str>, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        // Names that the library itself would not write.
        let name = header.as_mut_bytes();
        name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(link) = link {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        archive.append(&header, text.as_bytes()).unwrap();
    };
    let planted = outside.path().to_str().unwrap();
    add("Dockerfile", tar::EntryType::Regular, None, "FROM busybox\nCOPY . /all/\nCOPY link /link\n");
    add("out", tar::EntryType::Symlink, Some(planted), "");
    add("out/planted", tar::EntryType::Regular, None, "planted");
    add("link", tar::EntryType::Symlink, Some("/etc/hostname"), "");
    let bytes = archive.into_inner().unwrap();
    let client = daemon.docker();
    let args = ["build", "-t", "hostile", "-"];
    let mut command = client.command(&args);
    command.env("DOCKER_BUILDKIT", "0");
    // Whether it is refused or not, nothing is written or read outside.
    let built = e2e::clients::finish(command, &args, Some(&bytes));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    built.expect_code(1);
    assert_nothing_stays(&daemon);
}
