//! Dockerfiles as LLB: the shapes of operations, their names, and what the configuration and the history say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use build::convert::{
    ContextSource, ConvertError, Converted, Input, KnownBase, LocalSource, NoCache, Options, OtherSource, Problem,
    convert,
};
use buildkit::wire::llb::{self, FileActionAction as Action, OpOp};
use dockerfile::{Base, BaseImage, Dockerfile, Evaluation, Plan, Source};
use prost::Message as _;
use store::model::{History, Image, ImageConfig};
use types::Platform;

/// What a test builds.
struct Case {
    plan: dockerfile::Options,
    options: Options,
    image: Image,
}

impl Default for Case {
    fn default() -> Self {
        let plan = dockerfile::Options {
            target_platform: Platform::new("linux", "amd64", ""),
            build_platform: Platform::new("linux", "amd64", ""),
            ..dockerfile::Options::default()
        };
        let image = Image {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            history: vec![History { created_by: "base".to_owned(), ..History::default() }],
            ..Image::default()
        };
        Self { plan, options: Options::default(), image }
    }
}

/// What came out, with operations by their digests.
struct Built {
    converted: Converted,
    ops: Vec<(String, llb::Op)>,
}

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

impl Case {
    fn try_build(&self, text: &str) -> Result<Built, ConvertError> {
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        let file = Dockerfile::parse(&source).unwrap();
        let mut plan = Plan::new(&file, &self.plan).unwrap();
        let mut bases = BTreeMap::new();
        loop {
            let wanted: Vec<_> = plan.needed().map(|(index, stage)| (index, stage.base.clone())).collect();
            if wanted.is_empty() {
                break;
            }
            for (index, base) in wanted {
                let env = self.image.config.env.iter().flatten().filter_map(|item| item.split_once('='));
                let known = Base {
                    env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                    shell: self.image.config.shell.clone().unwrap_or_default(),
                    on_build: self.image.config.on_build.clone().unwrap_or_default(),
                    platform: None,
                };
                plan.know(index, known).unwrap();
                if let BaseImage::Image(reference) = base {
                    let reference = format!("{}@{DIGEST}", reference.with_default_tag());
                    bases.insert(index, KnownBase { reference, image: self.image.clone() });
                }
            }
        }
        let evaluation = Evaluation::new(&plan, None).unwrap();
        let images = BTreeMap::new();
        let input = Input {
            plan: &plan,
            evaluation: &evaluation,
            source: &source,
            bases: &bases,
            images: &images,
            options: &self.options,
        };
        let converted = convert(&input)?;
        let ops: Vec<_> = converted
            .definition
            .def
            .iter()
            .map(|bytes| (digest(bytes), llb::Op::decode(bytes.as_slice()).unwrap()))
            .collect();
        let mut seen = BTreeSet::new();
        for (digest, op) in &ops {
            assert!(op.inputs.iter().all(|input| seen.contains(&input.digest)), "inputs come first");
            assert!(seen.insert(digest.clone()), "each operation once");
            assert!(converted.definition.metadata.contains_key(digest));
        }
        if let Some((_, end)) = ops.last() {
            assert!(end.op.is_none() && end.inputs.len() == 1);
        }
        Ok(Built { converted, ops })
    }

    fn build(&self, text: &str) -> Built {
        self.try_build(text).unwrap()
    }
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    format!("sha256:{}", faster_hex::hex_string(&sha2::Sha256::digest(bytes)))
}

fn build(text: &str) -> Built {
    Case::default().build(text)
}

impl Built {
    fn about(&self, digest: &str) -> &llb::OpMetadata {
        &self.converted.definition.metadata[digest]
    }

    fn names(&self) -> Vec<&str> {
        let names = self.ops.iter().filter_map(|(digest, _)| self.about(digest).description.get("llb.customname"));
        names.map(String::as_str).collect()
    }

    fn named(&self, name: &str) -> (&str, &llb::Op) {
        let found = |digest: &str| self.about(digest).description.get("llb.customname").is_some_and(|n| n == name);
        let (digest, op) =
            self.ops.iter().find(|(digest, _)| found(digest)).unwrap_or_else(|| panic!("{name}: {:?}", self.names()));
        (digest, op)
    }

    fn execs(&self) -> Vec<&llb::ExecOp> {
        self.ops
            .iter()
            .filter_map(|(_, op)| if let Some(OpOp::Exec(exec)) = &op.op { Some(exec) } else { None })
            .collect()
    }

    fn exec(&self) -> &llb::ExecOp {
        self.execs().last().unwrap()
    }

    fn meta(&self) -> &llb::Meta {
        self.exec().meta.as_ref().unwrap()
    }

    fn sources(&self) -> HashMap<&str, &HashMap<String, String>> {
        let source = |(_, op): &'_ (String, llb::Op)| matches!(op.op, Some(OpOp::Source(_)));
        let sources = self.ops.iter().filter(|op| source(op));
        sources
            .filter_map(|(_, op)| match &op.op {
                Some(OpOp::Source(source)) => Some((source.identifier.as_str(), &source.attrs)),
                _ => None,
            })
            .collect()
    }

    /// Actions of the last operation on files.
    fn actions(&self) -> (&llb::Op, Vec<&llb::FileAction>) {
        let files = self.ops.iter().rev().find_map(|(_, op)| match &op.op {
            Some(OpOp::File(file)) => Some((op, file.actions.iter().collect())),
            _ => None,
        });
        files.unwrap()
    }

    fn copies(&self) -> Vec<&llb::FileActionCopy> {
        let copy = |action: &&'_ llb::FileAction| matches!(action.action, Some(Action::Copy(_)));
        let actions = self.actions().1;
        let copies = actions.into_iter().filter(|action| copy(action));
        copies
            .filter_map(|action| if let Some(Action::Copy(copy)) = &action.action { Some(copy) } else { None })
            .collect()
    }

    fn config(&self) -> &ImageConfig {
        &self.converted.image.config
    }

    fn history(&self) -> Vec<(&str, bool)> {
        let entries = self.converted.image.history.iter();
        entries.map(|entry| (entry.created_by.as_str(), entry.empty_layer)).collect()
    }
}

fn strings<T: AsRef<str>>(items: &[T]) -> Vec<&str> {
    items.iter().map(AsRef::as_ref).collect()
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn steps_have_names_and_commands_have_what_they_run_in() {
    let built = build("FROM alpine\nENV A=b\nWORKDIR /w\nUSER u:g\nRUN echo $A $B\nRUN [\"x\", \"y\"]\n");
    assert_eq!(
        built.names(),
        [
            format!("[1/4] FROM docker.io/library/alpine:latest@{DIGEST}").as_str(),
            "[2/4] WORKDIR /w",
            "[3/4] RUN echo b $B",
            "[4/4] RUN [\"x\", \"y\"]"
        ]
    );
    assert_eq!(strings(&built.meta().args), ["x", "y"]);
    let meta = built.execs()[0].meta.as_ref().unwrap();
    assert_eq!(strings(&meta.args), ["/bin/sh", "-c", "echo $A $B"]);
    assert_eq!(strings(&meta.env), [PATH, "A=b"]);
    assert_eq!((meta.cwd.as_str(), meta.user.as_str()), ("/w", "u:g"));
    let root = &built.exec().mounts[0];
    assert_eq!((root.input, root.dest.as_str(), root.output), (0, "/", 0));
    assert_eq!(
        built.history(),
        [
            ("base", false),
            ("ENV A=b", true),
            ("WORKDIR /w", false),
            ("USER u:g", true),
            ("RUN /bin/sh -c echo $A $B # buildkit", false),
            ("RUN x y # buildkit", false)
        ]
    );
    assert!(built.converted.image.history[1..].iter().all(|entry| entry.comment == "buildkit.dockerfile.v0"));
    let (digest, op) = built.named("[2/4] WORKDIR /w");
    let Some(OpOp::File(file)) = &op.op else { panic!() };
    let Some(Action::Mkdir(made)) = &file.actions[0].action else { panic!() };
    assert_eq!((made.path.as_str(), made.mode, made.make_parents, made.timestamp), ("/w", 0o755, true, -1));
    assert!(op.platform.is_none());
    let source = built.converted.definition.source.as_ref().unwrap();
    assert_eq!((source.infos[0].filename.as_str(), source.infos[0].language.as_str()), ("Dockerfile", "Dockerfile"));
    let range = &source.locations[digest].locations[0].ranges[0];
    assert_eq!((range.start.as_ref().unwrap().line, range.end.as_ref().unwrap().line), (3, 3));
}

#[test]
fn the_same_build_has_the_same_bytes() {
    let mut case = Case::default();
    let local = LocalSource {
        name: "context".into(),
        exclude: vec!["x".into(), "!y".into()],
        session: "s".into(),
        shared_key_hint: "h".into(),
        unique: "u".into(),
    };
    case.options.context = ContextSource::Local(local);
    let text =
        "FROM alpine\nCOPY a /\nADD https://h/x /\nCOPY --link b /\nRUN --mount=type=cache,target=/c,mode=0700 x\n";
    let first = case.build(text).converted.definition;
    for _ in 0..8 {
        let again = case.build(text).converted.definition;
        assert_eq!(first.def, again.def);
        assert_eq!(first.metadata, again.metadata);
    }
}

#[test]
fn equal_operations_are_one_and_unused_stages_none() {
    let built = build(
        "FROM alpine AS a\nCOPY x /x\nFROM alpine AS b\nCOPY x /x\nFROM alpine AS unused\nRUN no\nFROM scratch\n\
         COPY --from=a /x /1\nCOPY --from=b /x /2\n",
    );
    let count = |start: &str| built.names().iter().filter(|name| name.contains(start)).count();
    assert_eq!((count("COPY x /x"), count("FROM"), count("RUN")), (1, 1, 0));
    assert_eq!(built.names().last(), Some(&"[stage-3 2/2] COPY --from=b /x /2"));
    let (_, actions) = built.actions();
    assert_eq!((actions[0].input, actions[0].secondary_input, actions[0].output), (0, 1, 0));
    assert_eq!(built.config().env.as_deref(), Some(&[PATH.to_owned()][..]));
    assert_eq!(built.config().working_dir, "/");
}

#[test]
fn only_paths_that_are_used_are_sent() {
    let attrs = |text: &str| build(text).sources().get("local://context").map(|attrs| (*attrs).clone());
    let follow = |text: &str| attrs(text).unwrap().get("local.followpaths").cloned();
    assert_eq!(follow("FROM scratch\nCOPY b/ ./a c* /\n").as_deref(), Some(r#"["a","b","c*"]"#));
    assert_eq!(follow("FROM scratch\nCOPY a /\nADD . /\n"), None);
    assert_eq!(
        follow("FROM alpine\nADD a https://h/x /d/\nRUN --mount=source=m,target=/m x\n").as_deref(),
        Some(r#"["a","m"]"#)
    );
    assert_eq!(attrs("FROM scratch\nCOPY <<E /e\nE\n"), None);
    assert_eq!(build("FROM scratch\nCOPY a /\n").names()[0], "[internal] load build context");
}

#[test]
fn copies_have_their_flags() {
    let built = build("FROM alpine\nWORKDIR /w\nCOPY --chown=u:1 --chmod=0750 --exclude=*.o --exclude=t a b/ d/\n");
    let (op, actions) = built.actions();
    assert_eq!(op.inputs.len(), 2);
    let wiring: Vec<_> = actions.iter().map(|action| (action.input, action.secondary_input, action.output)).collect();
    assert_eq!(wiring, [(0, 1, -1), (2, 1, 0)]);
    let copy = built.copies()[1];
    assert_eq!((copy.src.as_str(), copy.dest.as_str(), copy.mode), ("/b", "/w/d/", 0o750));
    assert_eq!(strings(&copy.exclude_patterns), ["*.o", "t"]);
    assert!(copy.follow_symlink && copy.dir_copy_contents && copy.create_dest_path);
    assert!(copy.allow_wildcard && copy.allow_empty_wildcard && !copy.attempt_unpack_docker_compatibility);
    let owner = copy.owner.as_ref().unwrap();
    let user = owner.user.as_ref().unwrap().user.clone();
    let named = llb::NamedUserOpt { name: "u".into(), input: 0 };
    assert_eq!(user, Some(llb::UserOptUser::ByName(named)));
    assert_eq!(owner.group.as_ref().unwrap().user, Some(llb::UserOptUser::ById(1)));
    assert_eq!(built.history().last().unwrap().0, "COPY --chown=u:1 --chmod=0750 a b/ d/ # buildkit");
    let copy = build("FROM scratch\nCOPY --chmod=u+x,go-w a /\n");
    assert_eq!((copy.copies()[0].mode, copy.copies()[0].mode_str.as_str()), (-1, "u+x,go-w"));
    assert!(copy.copies()[0].owner.is_none());
}

#[test]
fn parents_come_along_behind_the_pivot() {
    let built = build("FROM scratch\nCOPY --parents x/./y/z.c a/*.h /d/\n");
    let copies = built.copies();
    assert_eq!((copies[0].src.as_str(), strings(&copies[0].include_patterns)), ("/x", vec!["y/z.c"]));
    assert_eq!((copies[1].src.as_str(), strings(&copies[1].include_patterns)), ("/", vec!["a/*.h"]));
    assert_eq!(built.history()[0].0, "COPY --parents x/./y/z.c a/*.h /d/ # buildkit");
}

#[test]
fn links_are_laid_over_the_stage() {
    let built = build("FROM alpine\nCOPY --link a /a\n");
    let names = built.names();
    assert_eq!(names[2..], ["[2/2] COPY --link a /a", "[2/2] LINK COPY --link a /a"]);
    let (merge, op) = built.named("[2/2] LINK COPY --link a /a");
    assert!(matches!(&op.op, Some(OpOp::Merge(merge)) if merge.inputs.len() == 2) && op.inputs.len() == 2);
    let (copy, _) = built.named("[2/2] COPY --link a /a");
    let group = |digest| built.about(digest).progress_group.clone().unwrap();
    assert!(group(copy).weak && !group(merge).weak && group(copy).id == group(merge).id);
    assert_eq!(built.actions().1[0].input, -1);
    // On nothing there is nothing to lay it over.
    assert_eq!(build("FROM scratch\nCOPY --link a /a\n").names().len(), 2);
    assert_eq!(build("FROM alpine\nCOPY --link --chmod=755 a /a\n").actions().1[0].input, 0);
}

#[test]
fn documents_become_files_and_commands() {
    let built = build("FROM alpine\nARG x=1\nCOPY <<A.txt <<'B' /d/\n$x\nA.txt\n$x\nB\n");
    let data: Vec<_> = built
        .ops
        .iter()
        .filter_map(|(_, op)| match &op.op {
            Some(OpOp::File(file)) => file.actions.iter().find_map(|action| match &action.action {
                Some(Action::Mkfile(file)) => Some((file.path.as_str(), file.mode, file.data.as_slice())),
                _ => None,
            }),
            _ => None,
        })
        .collect();
    assert_eq!(data, [("/A.txt", 0o644, &b"1\n"[..]), ("/B", 0o644, &b"$x\n"[..])]);
    assert_eq!(built.names()[1], "[internal] preparing inline document");
    assert_eq!(built.copies().iter().map(|copy| copy.src.as_str()).collect::<Vec<_>>(), ["/A.txt", "/B"]);
    assert_eq!(built.history().last().unwrap().0, "COPY <<A.txt <<B /d/ # buildkit");

    let built = build("FROM alpine\nRUN <<E\necho 1\necho 2\nE\n");
    assert_eq!(strings(&built.meta().args), ["/bin/sh", "-c", "echo 1\necho 2\n"]);
    assert_eq!(built.names().last(), Some(&"[2/2] RUN <<E (echo 1...)"));
    let built = build("FROM alpine\nRUN <<E\n#!/usr/bin/env python\nprint()\nE\n");
    assert_eq!(strings(&built.meta().args), ["/bin/sh", "-c", "/dev/pipes/E"]);
    let mount = &built.exec().mounts[1];
    assert_eq!((mount.dest.as_str(), mount.readonly, mount.input), ("/dev/pipes/", true, 1));
    let built = build("FROM alpine\nRUN cat <<E >x\na\nE\n");
    assert_eq!(strings(&built.meta().args), ["/bin/sh", "-c", "cat <<E >x\na\nE"]);
}

#[test]
fn add_fetches_and_unpacks() {
    let sum = format!("sha256:{}", "b".repeat(64));
    let built = build(&format!("FROM scratch\nADD --checksum={sum} https://h/d/x%20y.tar.gz?z#f /d/\n"));
    let sources = built.sources();
    let attrs = sources["https://h/d/x%20y.tar.gz?z#f"];
    assert_eq!((attrs["http.filename"].as_str(), &attrs["http.checksum"]), ("x y.tar.gz", &sum));
    let copy = built.copies()[0];
    assert_eq!(copy.src, "/x y.tar.gz");
    assert!(!copy.attempt_unpack_docker_compatibility && !copy.allow_wildcard);
    assert!(build("FROM scratch\nADD --unpack https://h/ /d/\n").copies()[0].attempt_unpack_docker_compatibility);
    assert_eq!(build("FROM scratch\nADD https://h/ /d/\n").copies()[0].src, "/__unnamed__");
    assert_eq!(build("FROM scratch\nADD https://h/a%2fb /d/\n").copies()[0].src, "/__unnamed__");
    assert!(build("FROM scratch\nADD a.tar /d/\n").copies()[0].attempt_unpack_docker_compatibility);
    assert!(!build("FROM scratch\nADD --unpack=false a.tar /d/\n").copies()[0].attempt_unpack_docker_compatibility);
    let built = build("FROM scratch\nADD --keep-git-dir --checksum=abc git@h:o/r.git#v1:sub /d/\n");
    let sources = built.sources();
    let attrs = sources["git://h/o/r.git#v1:sub"];
    for (key, value) in [
        ("git.fullurl", "git@h:o/r.git"),
        ("git.keepgitdir", "true"),
        ("git.checksum", "abc"),
        ("git.mountsshsock", "default"),
    ] {
        assert_eq!(attrs[key], value);
    }
    assert_eq!(built.history()[0].0, "ADD git@h:o/r.git#v1:sub /d/ # buildkit");
    let problem = |text: &str| Case::default().try_build(text).err().unwrap().problem;
    assert_eq!(problem("FROM scratch\nADD --keep-git-dir https://h/r.git?keep-git-dir=0 /d/\n"), Problem::KeepGitDir);
    assert!(matches!(
        problem("FROM scratch\nADD --checksum=ab https://h/r.git?checksum=cd /d/\n"),
        Problem::Checksum(..)
    ));
}

#[test]
fn mounts_of_every_kind() {
    let built = build(
        "FROM alpine AS base\nFROM alpine\nWORKDIR /w\nRUN --mount=target=/z \
         --mount=from=base,source=/s,target=rel,rw --mount=type=cache,target=/root/.c,sharing=locked,uid=1 \
         --mount=type=cache,id=i,target=/b,from=base,source=d --mount=type=tmpfs,target=/t,size=1k \
         --mount=type=secret,id=a/key --mount=type=secret,id=e,env=E,required \
         --mount=type=secret,id=f,target=/f,mode=0444,uid=3 --mount=type=ssh --mount=type=ssh,id=o $E $SSH x\n",
    );
    let exec = built.exec();
    let mounts: Vec<_> = exec.mounts.iter().map(|mount| (mount.dest.as_str(), mount.mount_type())).collect();
    use llb::MountType::{Bind, Cache, Secret, Ssh, Tmpfs};
    assert_eq!(
        mounts,
        [
            ("/", Bind),
            ("/b", Cache),
            ("/root/.c", Cache),
            ("/t", Tmpfs),
            ("/w/rel", Bind),
            ("/z", Bind),
            ("/run/secrets/key", Secret),
            ("/f", Secret),
            ("/run/buildkit/ssh_agent.0", Ssh),
            ("/run/buildkit/ssh_agent.1", Ssh),
        ]
    );
    let mount = |dest: &str| exec.mounts.iter().find(|mount| mount.dest == dest).unwrap();
    let cache = mount("/root/.c");
    let opt = cache.cache_opt.as_ref().unwrap();
    assert_eq!(
        (opt.id.as_str(), opt.sharing(), cache.selector.as_str()),
        ("//root/.c", llb::CacheSharingOpt::Locked, "/cache")
    );
    assert_eq!((mount("/b").cache_opt.as_ref().unwrap().id.as_str(), mount("/b").selector.as_str()), ("/i", "/d"));
    let (_, permissions) = built.named("[internal] settings cache mount permissions");
    assert!(permissions.inputs.is_empty());
    let (rel, z) = (mount("/w/rel"), mount("/z"));
    assert_eq!((rel.readonly, rel.output, rel.selector.as_str()), (false, -1, "/s"));
    assert_eq!((z.readonly, z.output, z.selector.as_str()), (true, -1, ""));
    assert_eq!(mount("/t").tmpfs_opt.as_ref().unwrap().size, 1024);
    let secret = mount("/run/secrets/key").secret_opt.clone().unwrap();
    assert_eq!((secret.id.as_str(), secret.mode, secret.optional), ("a/key", 0o400, true));
    let secret = mount("/f").secret_opt.clone().unwrap();
    assert_eq!((secret.mode, secret.uid), (0o444, 3));
    let env = &exec.secretenv[0];
    assert_eq!((env.id.as_str(), env.name.as_str(), env.optional), ("e", "E", false));
    let ssh = mount("/run/buildkit/ssh_agent.1").ssh_opt.clone().unwrap();
    assert_eq!((ssh.id.as_str(), ssh.mode, ssh.optional), ("o", 0o600, true));
    assert!(built.meta().env.contains(&"SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0".to_owned()));
    assert!(built.names().last().unwrap().ends_with("**** $SSH x"));
}

#[test]
fn commands_are_confined_as_told() {
    let mut case = Case::default();
    case.options.network = llb::NetMode::None;
    case.options.hostname = "h".into();
    case.options.extra_hosts = vec![llb::HostIp { host: "a".into(), ip: "1.2.3.4".into() }];
    case.options.ulimits = vec![llb::Ulimit { name: "nofile".into(), soft: 1, hard: 2 }];
    case.options.cgroup_parent = "/p".into();
    case.options.shm_size = Some(4096);
    case.plan.build_args = [("HTTP_PROXY", "p"), ("no_proxy", "n")].map(|(a, b)| (a.into(), b.into())).into();
    let built = case.build("FROM alpine\nRUN a\nRUN --network=host --security=insecure --device=v/c=d,required b\n");
    let [a, b] = built.execs()[..] else { panic!() };
    assert_eq!((a.network(), b.network()), (llb::NetMode::None, llb::NetMode::Host));
    assert_eq!((a.security(), b.security()), (llb::SecurityMode::Sandbox, llb::SecurityMode::Insecure));
    assert_eq!(b.cdi_devices, [llb::CdiDevice { name: "v/c=d".into(), optional: false }]);
    let meta = a.meta.as_ref().unwrap();
    assert_eq!((meta.hostname.as_str(), meta.cgroup_parent.as_str()), ("h", "/p"));
    assert_eq!((meta.extra_hosts.len(), meta.ulimit.len()), (1, 1));
    let proxy = meta.proxy_env.as_ref().unwrap();
    assert_eq!((proxy.http_proxy.as_str(), proxy.no_proxy.as_str()), ("p", "n"));
    assert_eq!(strings(&meta.env), [PATH]);
    assert_eq!((a.mounts[1].dest.as_str(), a.mounts[1].tmpfs_opt.as_ref().unwrap().size), ("/dev/shm", 4096));
    let caps = &built.about(&built.ops[2].0).caps;
    for cap in
        ["exec.meta.base", "exec.meta.network", "exec.meta.security", "exec.meta.ulimit", "exec.mount.tmpfs.size"]
    {
        assert!(caps.contains_key(cap), "{cap}");
    }
}

#[test]
fn arguments_are_in_the_environment_and_in_the_history() {
    let mut case = Case::default();
    case.plan.build_args = BTreeMap::from([("B".to_owned(), "told".to_owned())]);
    let built =
        case.build("ARG G=g\nFROM alpine AS a\nARG G\nARG A=1 B=x C\nENV E=$B\nRUN x\nFROM a\nENV A=env\nRUN y\n");
    let history = built.history();
    assert_eq!(history[1].0, "ARG G=g");
    assert_eq!(history[2].0, "ARG A=1 B=told C");
    assert_eq!(history[4].0, "RUN |4 G=g A=1 B=told C= /bin/sh -c x # buildkit");
    assert_eq!(history[6].0, "RUN |4 G=g A=env B=told C= /bin/sh -c y # buildkit");
    assert_eq!(strings(&built.meta().env), [PATH, "G=g", "A=env", "B=told", "E=told"]);
    assert_eq!(strings(built.config().env.as_deref().unwrap()), [PATH, "E=told", "A=env"]);
}

#[test]
fn the_configuration_says_what_instructions_said() {
    let mut case = Case::default();
    case.options.labels = BTreeMap::from([("b".to_owned(), "over".to_owned())]);
    let built = case.build(
        "FROM scratch\nMAINTAINER me\nLABEL a=1 b=2\nEXPOSE 80 53/udp\nVOLUME /v /w\nSTOPSIGNAL SIGINT\n\
         SHELL [\"/bin/bash\", \"-c\"]\nHEALTHCHECK --interval=90s --retries=2 CMD curl x\nONBUILD RUN y\nCMD a \"b\"\n\
         ENTRYPOINT [\"e\"]\nUSER 1:2\n",
    );
    let config = built.config();
    assert_eq!(built.converted.image.author, "me");
    let labels: Vec<_> = config.labels.iter().flatten().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(labels, [("a", "1"), ("b", "over")]);
    assert_eq!(config.exposed_ports.as_ref().unwrap().keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    assert_eq!(config.volumes.as_ref().unwrap().len(), 2);
    assert_eq!((config.stop_signal.as_str(), config.user.as_str()), ("SIGINT", "1:2"));
    assert_eq!(config.cmd.as_deref().unwrap(), ["/bin/bash", "-c", "a \"b\""]);
    assert_eq!(config.entrypoint.as_deref().unwrap(), ["e"]);
    assert_eq!(config.on_build.as_deref().unwrap(), ["RUN y"]);
    let health = config.healthcheck.as_ref().unwrap();
    assert_eq!(health.test.as_deref().unwrap(), ["CMD-SHELL", "curl x"]);
    assert_eq!((health.interval, health.retries), (90_000_000_000, 2));
    let history = built.history();
    let texts: Vec<_> = history.iter().map(|(text, _)| *text).collect();
    assert_eq!(
        texts,
        [
            "MAINTAINER me",
            "LABEL a=1 b=2",
            "EXPOSE [53/udp 80/tcp]",
            "VOLUME [/v /w]",
            "STOPSIGNAL SIGINT",
            "SHELL [/bin/bash -c]",
            r#"HEALTHCHECK &{["CMD-SHELL" "curl x"] "1m30s" "0s" "0s" "0s" '\x02'}"#,
            "CMD [\"/bin/bash\" \"-c\" \"a \\\"b\\\"\"]",
            "ENTRYPOINT [\"e\"]",
            "USER 1:2"
        ]
    );
    assert!(history.iter().all(|(_, empty)| *empty));
    // Nothing was made.
    assert!(built.converted.definition.def.is_empty());
    assert_eq!((built.converted.image.os.as_str(), built.converted.image.architecture.as_str()), ("linux", "amd64"));
    assert_eq!(
        build("FROM scratch\nHEALTHCHECK NONE\n").config().healthcheck.as_ref().unwrap().test.as_deref().unwrap(),
        ["NONE"]
    );
}

#[test]
fn an_entry_point_forgets_the_inherited_command_only() {
    let mut case = Case::default();
    case.image.config = ImageConfig {
        cmd: Some(vec!["old".into()]),
        env: Some(vec!["X=y".into()]),
        working_dir: "/base".into(),
        user: "root".into(),
        on_build: Some(vec!["RUN trigger".into(), "COPY --from=busybox a b".into()]),
        ..ImageConfig::default()
    };
    let built = case.build("FROM alpine\nENTRYPOINT [\"e\"]\nWORKDIR sub\n");
    assert_eq!((built.config().cmd.clone(), built.config().working_dir.as_str()), (None, "/base/sub"));
    assert_eq!(built.config().on_build, None);
    assert_eq!(strings(built.config().env.as_deref().unwrap()), ["X=y", PATH]);
    assert!(built.names().contains(&"[2/4] ONBUILD RUN trigger"));
    assert!(built.names().contains(&"FROM docker.io/library/busybox:latest"));
    assert_eq!((built.meta().cwd.as_str(), built.meta().user.as_str()), ("/base", "root"));
    case.image.config.on_build = None;
    assert_eq!(case.build("FROM alpine\nUSER x\n").config().cmd.as_deref().unwrap(), ["old"]);
    let built = case.build("FROM alpine\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n");
    assert_eq!(built.config().cmd.as_deref().unwrap(), ["c"]);
}

#[test]
fn contexts_take_the_place_of_images() {
    let mut case = Case::default();
    case.plan.contexts = BTreeSet::from(["alpine".to_owned(), "src".to_owned(), "none".to_owned()]);
    let image =
        OtherSource { identifier: "docker-image://docker.io/library/debian:12".into(), ..OtherSource::default() };
    let local = LocalSource { name: "src".into(), ..LocalSource::default() };
    case.options.contexts = BTreeMap::from([
        ("alpine".to_owned(), ContextSource::Other(image)),
        ("src".to_owned(), ContextSource::Local(local)),
    ]);
    let git = OtherSource { identifier: "git://h/r.git".into(), ..OtherSource::default() };
    case.options.context = ContextSource::Other(git);
    let built = case.build("FROM alpine\nCOPY --from=src a/b /\nCOPY . /\nRUN x\n");
    assert_eq!(
        built.names()[..3],
        [
            "[context alpine] docker.io/library/debian:12",
            "[context src] load from client",
            "[stage-0 1/4] COPY --from=src a/b /"
        ]
    );
    assert_eq!(built.sources()["local://src"]["local.followpaths"], r#"["a/b"]"#);
    assert!(built.names().contains(&"[internal] load git source h/r.git"));
    let error = case.try_build("FROM scratch\nCOPY --from=none a /\n").err().unwrap();
    assert_eq!((error.problem, error.lines.unwrap().first), (Problem::UnknownContext("none".to_owned()), 2));
    let archive =
        OtherSource { identifier: "https://h/c".into(), archive: Some("context".into()), ..OtherSource::default() };
    case.options.context = ContextSource::Other(archive);
    assert_eq!(
        case.build("FROM scratch\nCOPY . /\n").names()[..2],
        ["[internal] load remote build context", "[internal] unpack build context"]
    );
}

#[test]
fn options_of_the_whole_build() {
    let mut case = Case::default();
    case.options.no_cache = NoCache::Stages(vec!["B".into()]);
    case.options.multi_platform = true;
    case.options.source_date_epoch = Some(1_700_000_000);
    case.options.resolve_mode = "pull".into();
    let built = case.build("FROM --platform=$TARGETPLATFORM alpine AS a\nRUN x\nFROM a AS b\nRUN y\nCOPY c /\n");
    let names = built.names();
    assert!(names.contains(&"[linux/amd64 a 2/2] RUN x") && names.contains(&"[linux/amd64 b 1/2] RUN y"), "{names:?}");
    let ignored = |name: &str| built.about(built.named(name).0).ignore_cache;
    assert!(!ignored("[linux/amd64 a 2/2] RUN x") && ignored("[linux/amd64 b 1/2] RUN y"));
    assert!(built.converted.ignore_cache);
    // What is copied keeps its time; outputs clamp it.
    assert_eq!(built.copies()[0].timestamp, -1);
    assert_eq!(built.converted.image.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(built.converted.image.history[1].created.as_deref(), Some("2023-11-14T22:13:20Z"));
    let sources = built.sources();
    let image = sources.iter().find(|(name, _)| name.starts_with("docker-image://")).unwrap();
    assert_eq!(image.1["image.resolvemode"], "pull");
    case.options.source_date_epoch = Some(i64::MAX);
    assert_eq!(case.try_build("FROM scratch\n").err().unwrap().problem, Problem::Epoch(i64::MAX));
    let built = build("FROM alpine\nRUN --mount=type=cache,target=/c x\n");
    assert_eq!(built.names().last(), Some(&"[stage-0 2/2] RUN --mount=type=cache,target=/c x"));
}

#[test]
fn hostile_files_end_in_time_or_in_an_error() {
    let many = format!("FROM alpine\n{}", "RUN true\n".repeat(10_000));
    let built = build(&many);
    assert_eq!(built.ops.len(), 10_002);
    assert_eq!(built.names()[9], "[   10/10001] RUN true");
    let chain: String =
        (1..1000).map(|stage| format!("FROM s{} AS s{stage}\nCOPY {stage} /\nENV a{stage}=b\n", stage - 1)).collect();
    let built = build(&format!("FROM scratch AS s0\n{chain}"));
    assert_eq!(built.converted.image.history.len(), 1998);
    let big = format!("FROM alpine\nENV a={}\n{}", "x".repeat(500_000), "RUN true $a$a\n".repeat(5_000));
    assert!(matches!(Case::default().try_build(&big).err().unwrap().problem, Problem::TooLarge(_)));
    let urls: String = (0..5_000).map(|at| format!(" https://h/{at}")).collect();
    assert_eq!(build(&format!("FROM scratch\nADD{urls} /d/\n")).copies().len(), 5_000);
    for odd in [
        "COPY ../../.. ..",
        "COPY \u{e9} \u{e9}",
        "WORKDIR ../..",
        "RUN $",
        "RUN ${",
        "RUN \\",
        "ADD https:// /",
        "LABEL \"\"=x",
    ] {
        let text = format!("FROM alpine\n{odd}\n");
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        if Dockerfile::parse(&source).is_ok() {
            let _ = Case::default().try_build(&text);
        }
    }
}
