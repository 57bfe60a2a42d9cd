//! `build`: an image from a Dockerfile.

use crate::{
    build,
    flags::{Arity, Command, Flag, Kind},
};

const BUILDERS: &str = "the daemon has one builder; name the daemon with -H or --context";

const FLAGS: &[Flag] = &[
    Flag::list("add-host", "Name and address for steps (\"name:address\")").kind(Kind::List, "strings"),
    Flag::list("allow", "Privilege for steps (\"network.host\", \"security.insecure\", \"device\")"),
    Flag::list("annotation", "Annotation of the image"),
    Flag::list("attest", "Attestation (\"type=sbom,generator=image\")"),
    Flag::list("build-arg", "Variable of the Dockerfile (NAME=VALUE, or NAME to take ours)"),
    Flag::list("build-context", "Further context (name=path)"),
    Flag::text("builder", "").refused(BUILDERS),
    Flag::list("cache-from", "Where to take results from (\"user/app:cache\", \"type=registry,ref=…\")"),
    Flag::list("cache-to", "Where to put results (\"type=inline\", \"type=registry,ref=…\")"),
    Flag::text("call", "What to do with the Dockerfile (\"build\", \"check\", \"outline\", \"targets\")")
        .default("build"),
    Flag::text("cgroup-parent", "Parent control group of steps"),
    Flag::switch("check", "The same as --call=check"),
    Flag::switch("debug", "Say how files are brought to the builder, and what failed in full").short('D'),
    Flag::switch("explain", "Say for each step why its result was known or not"),
    Flag::text("file", "Dockerfile (default \"PATH/Dockerfile\"; - for standard input)").short('f'),
    Flag::text("iidfile", "File for the image's id"),
    Flag::list("label", "Label of the image"),
    Flag::switch("load", "The same as --output=type=docker"),
    Flag::text("metadata-file", "File for what is known of the result"),
    Flag::text("network", "Network of steps (\"default\", \"none\", \"host\")").default("default"),
    Flag::switch("no-cache", "Do everything again"),
    Flag::list("no-cache-filter", "Stages to do again").kind(Kind::Commas, "list"),
    Flag::list("output", "What becomes of the result (\"type=local,dest=path\")").short('o'),
    Flag::list("platform", "Platform to build for").kind(Kind::Commas, "list"),
    Flag::text("progress", "How to show progress (\"auto\", \"none\", \"plain\", \"quiet\", \"rawjson\", \"tty\")"),
    Flag::text("provenance", "The same as --attest=type=provenance"),
    Flag::switch("pull", "Ask the registry for every image that is built upon"),
    Flag::switch("push", "The same as --output=type=registry"),
    Flag::switch("quiet", "Print the image's id alone").short('q'),
    Flag::text("sbom", "The same as --attest=type=sbom"),
    Flag::list("secret", "Secret for steps (\"id=name[,src=path|,env=NAME]\")"),
    Flag::bytes("shm-size", "Size of /dev/shm of steps"),
    Flag::list("ssh", "Agent for steps (\"default\", \"id=socket\")"),
    Flag::list("tag", "Name of the image (\"name:tag\")").short('t'),
    Flag::text("target", "Stage to build"),
    Flag::list("ulimit", "Resource limit of steps (\"nofile=1024:2048\")").value("ulimit"),
];

pub(super) static BUILD: Command = Command {
    paths: &["image build", "build", "builder build", "buildx build"],
    synopsis: "[OPTIONS] PATH | URL | -",
    about: "Build an image from a Dockerfile",
    flags: &[FLAGS],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: build::run,
};
