//! Stages: what they begin with, what they need, and what base images want of them.

use std::collections::BTreeSet;

use dockerfile::check::{Rule, run};
use dockerfile::ignore::Ignore;
use dockerfile::{Base, BaseImage, Dockerfile, Evaluation, Instruction, Options, Origin, Plan, Source};
use types::Platform;

fn read(text: &str) -> Dockerfile {
    Dockerfile::parse(&Source::new("Dockerfile", text.as_bytes()).unwrap()).unwrap()
}

fn options() -> Options {
    let amd64 = Platform::new("linux", "amd64", "");
    Options { target_platform: amd64.clone(), build_platform: amd64, ..Options::default() }
}

fn failure(text: &str) -> String {
    Plan::new(&read(text), &options()).unwrap_err().error.to_string()
}

#[test]
fn only_what_the_target_needs_is_needed() {
    let file = read(
        "ARG V=1\nFROM a:$V AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=1 x y\nFROM c AS four\n\
         RUN --mount=from=three,target=/x y\nCOPY --from=d x y\nFROM four AS five",
    );
    let mut options = options();
    let needed = |options: &Options| -> Vec<bool> {
        Plan::new(&file, options).unwrap().stages.iter().map(|stage| stage.needed).collect()
    };
    assert_eq!(needed(&options), [true; 5]);
    options.target = Some("Three".to_owned());
    assert_eq!(needed(&options), [true, true, true, false, false]);
    options.target = Some("two".to_owned());
    assert_eq!(needed(&options), [false, true, false, false, false]);
    options.build_args.insert("V".to_owned(), "2".to_owned());
    let plan = Plan::new(&file, &options).unwrap();
    assert_eq!(plan.stages[0].base_name, "a:2");
    assert_eq!(plan.stages[2].base, BaseImage::Stage(0));
    assert!(matches!(&plan.stages[3].origins[..], [Origin::Stage(2), Origin::Image(_)]));
    assert_eq!(plan.needed().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
}

#[test]
fn contexts_come_before_stages_and_images() {
    let file = read("FROM a AS b\nFROM b\nCOPY --from=c x y\nCOPY --from=0 x y");
    let options = Options { contexts: BTreeSet::from(["b".to_owned(), "c".to_owned()]), ..options() };
    let plan = Plan::new(&file, &options).unwrap();
    assert_eq!(plan.stages[1].base, BaseImage::Context("b".to_owned()));
    assert_eq!(plan.stages[1].origins, [Origin::Context("c".to_owned()), Origin::Stage(0)]);
}

#[test]
fn stages_do_not_need_each_other() {
    assert_eq!(
        failure(
            "FROM scratch AS a\nCOPY --from=b x y\nFROM scratch AS b\nRUN --mount=from=c x\nFROM scratch AS c\nCOPY --from=a x y"
        ),
        "circular dependency detected on stage: a"
    );
    assert_eq!(failure("FROM scratch\nCOPY --from=0 x y"), "circular dependency detected on stage: stage-0");
    assert_eq!(
        failure("FROM scratch AS a\nFROM scratch AS b\nCOPY --from=2 x y\nFROM a"),
        "cannot copy from stage \"stage-2\", it needs to be defined before current stage \"b\""
    );
    // A long chain is gone along once.
    let chain: String =
        (0..1000).map(|n| format!("FROM scratch AS s{n}\nCOPY --from={} x y\n", (n + 1) % 1000)).collect();
    assert_eq!(failure(&chain), "circular dependency detected on stage: s0");
}

#[test]
fn triggers_of_a_base_image_come_first() {
    let file = read("FROM scratch AS tools\nFROM base\nARG x=2\nLABEL l=$x");
    let options = options();
    let mut plan = Plan::new(&file, &options).unwrap();
    assert!(!plan.stages[0].needed);
    let on_build = vec!["ENV e=$p".to_owned(), "COPY --from=tools <<E /x\n$e\nE".to_owned()];
    let base = Base { env: vec![("p".to_owned(), "1".to_owned())], on_build, ..Base::default() };
    plan.know(1, base).unwrap();
    assert!(plan.stages[0].needed, "a trigger takes files from it");
    assert_eq!(plan.needed().count(), 0);
    let evaluation = Evaluation::new(&plan, None).unwrap();
    let stage = evaluation.stage(1).unwrap();
    let names: Vec<_> = stage.steps.iter().map(|step| step.statement.instruction.name()).collect();
    assert_eq!(names, ["ENV", "COPY", "ARG", "LABEL"]);
    assert_eq!(stage.env().collect::<Vec<_>>(), [("p", "1"), ("e", "1")]);
    let Instruction::Copy(copy) = &stage.steps[1].statement.instruction else { panic!() };
    let dockerfile::FileSource::Heredoc(heredoc) = &copy.files.sources[0] else { panic!() };
    assert_eq!(heredoc.content, "1\n");
    assert_eq!(stage.steps[1].statement.lines.first, 2);
}

#[test]
fn triggers_that_cannot_be_are_refused_at_the_from() {
    let file = read("FROM scratch\nFROM base");
    for (trigger, message) in [
        ("FOO x", "unknown instruction: FOO (did you mean FROM?)"),
        ("ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("COPY --from=1 a b", "circular dependency detected on stage: stage-1"),
        ("ENV a", "ENV must have two arguments"),
        ("RUN \0", "the line has a NUL byte"),
    ] {
        let options = options();
        let mut plan = Plan::new(&file, &options).unwrap();
        let base = Base { on_build: vec![trigger.to_owned()], ..Base::default() };
        let error = plan.know(1, base).unwrap_err().error;
        assert_eq!((error.to_string().as_str(), error.lines.unwrap().first), (message, 2));
    }
    let options = options();
    let mut plan = Plan::new(&file, &options).unwrap();
    assert!(plan.know(1, Base { on_build: vec!["RUN x".to_owned(); 1001], ..Base::default() }).is_err());
}

#[test]
fn images_for_other_platforms_are_told_of() {
    let source = Source::new("Dockerfile", b"FROM a\nFROM --platform=$TARGETPLATFORM b").unwrap();
    let arm = Base { platform: Some(Platform::new("linux", "arm64", "")), ..Base::default() };
    let report = run(&source, &options(), None, &mut |_| Some(arm.clone()));
    let found: Vec<_> =
        report.warnings.iter().filter(|warning| warning.rule == Rule::InvalidBaseImagePlatform).collect();
    assert_eq!(
        found.iter().map(|warning| warning.detail.as_str()).collect::<Vec<_>>(),
        ["Base image a was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build"]
    );
}

#[test]
fn files_that_are_ignored_are_told_of() {
    let ignore = Ignore::parse(b"*.txt\nsub\nall/*\n!all/in").unwrap();
    let source = Source::new(
        "Dockerfile",
        b"FROM scratch\nCOPY a.txt sub/x b ./c.txt /\nADD d.txt http://x.txt /\nCOPY --from=x e.txt /\nCOPY all *.txt /\n\
          COPY <<f.txt /\nf.txt\nCOPY [\"g.txt\", \"/\"]\nCOPY all/out /",
    )
    .unwrap();
    let report = run(&source, &options(), Some(&ignore), &mut |_| None);
    let found: Vec<_> = report.warnings.iter().map(|warning| warning.detail.as_str()).collect();
    let expected =
        |verb: &str, name: &str| format!("Attempting to {verb} file \"{name}\" that is excluded by .dockerignore");
    assert_eq!(
        found,
        [
            expected("Copy", "a.txt"),
            expected("Copy", "sub/x"),
            expected("Add", "d.txt"),
            expected("Copy", "*.txt"),
            expected("Copy", "g.txt"),
            expected("Copy", "all/out")
        ]
    );
}

#[test]
fn arguments_are_told_inherited_and_scoped() {
    let file = read("ARG G=g\nFROM scratch AS a\nARG G\nARG A=1\nFROM a\nARG N\nLABEL l=$G$A$N${TARGETARCH}");
    let mut options = options();
    options.build_args.extend([("A".to_owned(), "2".to_owned()), ("N".to_owned(), "n".to_owned())]);
    let plan = Plan::new(&file, &options).unwrap();
    let evaluation = Evaluation::new(&plan, None).unwrap();
    let stage = evaluation.stage(1).unwrap();
    let Instruction::Label(pairs) = &stage.steps[1].statement.instruction else { panic!() };
    assert_eq!(pairs.pairs[0].value.text, "g2n");
    assert_eq!(stage.args().collect::<Vec<_>>(), [("G", "g"), ("A", "2"), ("N", "n")]);
    let details: Vec<_> = evaluation.warnings.iter().map(|warning| warning.detail.as_str()).collect();
    assert_eq!(details, ["Usage of undefined variable '$TARGETARCH'"]);
}

#[test]
fn findings_fail_the_build_where_they_shall() {
    let file = read("# check=error=true\nFROM scratch AS X");
    let mut options = options();
    let fail = |options: &Options| {
        Evaluation::new(&Plan::new(&file, options).unwrap(), None).map_err(|failure| failure.error.to_string())
    };
    assert_eq!(fail(&options).unwrap_err(), "lint violation found for rules: StageNameCasing");
    options.build_args.insert("BUILDKIT_DOCKERFILE_CHECK".to_owned(), "skip=all".to_owned());
    assert!(fail(&options).unwrap().warnings.is_empty());
    options.build_args.insert("BUILDKIT_DOCKERFILE_CHECK".to_owned(), "x".to_owned());
    assert!(fail(&options).unwrap_err().contains("invalid check option"));
}

#[test]
fn results_go_to_other_threads() {
    fn sends<T: Send + Sync>() {}
    sends::<Dockerfile>();
    sends::<Plan<'_>>();
    sends::<Evaluation>();
    sends::<Ignore>();
}
