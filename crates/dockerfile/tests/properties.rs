//! What holds for every text: nothing panics, places lie within the text, work is bounded, and what is written is read again.

use dockerfile::check::run;
use dockerfile::ignore::Ignore;
use dockerfile::{Base, Dockerfile, Evaluation, Options, Plan, Source, Span, limits};
use proptest::prelude::*;

/// Pieces that Dockerfiles are made of, and some that they are not.
const PIECES: &[&str] = &[
    "FROM",
    "scratch",
    "busybox:1",
    "AS",
    "base",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "LABEL",
    "CMD",
    "ENTRYPOINT",
    "SHELL",
    "USER",
    "WORKDIR",
    "VOLUME",
    "EXPOSE",
    "STOPSIGNAL",
    "ONBUILD",
    "HEALTHCHECK",
    "MAINTAINER",
    "NONE",
    "--from=base",
    "--from=0",
    "--platform=linux/amd64",
    "--mount=type=cache,target=/x",
    "--mount=type=secret,id=a,required",
    "--chmod=755",
    "--link",
    "--network=none",
    "--interval=5s",
    "--exclude=*.a",
    "--",
    "[\"a\", \"b\"]",
    "[",
    "]",
    "a=b",
    "a='b c'",
    "b=$a",
    "c=${a:-x}",
    "${a#*b}",
    "${a//b/c}",
    "${",
    "}",
    "$",
    "\"",
    "'",
    "\\",
    "`",
    "\\\n",
    "\\\n\n",
    "\n",
    "\n",
    "\n",
    " ",
    " ",
    " ",
    "\t",
    "\r\n",
    "#",
    "# escape=`\n",
    "# check=skip=all\n",
    "# a is b\n",
    "<<EOF",
    "<<-'E F'",
    "3<<X",
    "EOF",
    "\nEOF\n",
    "\nX\n",
    "80",
    "80/TCP",
    "1-3:4-6",
    "/x",
    "é",
    "😀",
    "\u{a0}",
    "x",
];

fn texts() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat())
}

/// Instructions as people write them, one a line.
fn files() -> impl Strategy<Value = String> {
    let word = "[a-z$./*\"'\\\\{}:=,<-]{1,8}";
    let line = prop_oneof![
        Just("FROM scratch".to_owned()),
        Just("FROM --platform=$P a AS b".to_owned()),
        (word, word).prop_map(|(a, b)| format!("RUN --mount=type=bind,source={a},target=/{b} {a} {b}")),
        (word, word).prop_map(|(a, b)| format!("COPY --chown={a} --exclude='{b} x' {a} {b}")),
        (word, word).prop_map(|(a, b)| format!("ADD --checksum={a} --unpack=false {b} x {a}")),
        (word, word).prop_map(|(a, b)| format!("ENV {a} {b}")),
        (word, word).prop_map(|(a, b)| format!("LABEL x={a} y=\"{b}\"")),
        (word, word).prop_map(|(a, b)| format!("ARG x{a} y=z{b}")),
        (word, word).prop_map(|(a, b)| format!("CMD [\"{a}\", \"{b}\"]")),
        (word, word).prop_map(|(a, b)| format!("VOLUME {a} {b}")),
        (word, word).prop_map(|(a, b)| format!("EXPOSE {a} {b}")),
        word.prop_map(|a| format!("USER {a}")),
        word.prop_map(|a| format!("ONBUILD RUN -- {a}")),
        word.prop_map(|a| format!("HEALTHCHECK --interval=90s --retries=2 CMD {a}")),
        word.prop_map(|a| format!("RUN --device={a},required --security=insecure -- --{a}")),
        word.prop_map(|a| format!("RUN <<-'E' cat 4<<F\n\t{a}\n\tE\n{a}\nF")),
        word.prop_map(|a| format!("COPY <<E{a} /y\n{a}\nE{a}")),
    ];
    prop::collection::vec(line, 0..8).prop_map(|lines| format!("FROM scratch\n{}\n", lines.join("\n")))
}

fn base() -> Base {
    let env = vec![("PATH".to_owned(), "/bin".to_owned())];
    Base { env, on_build: vec!["ENV t=$a".to_owned()], ..Base::default() }
}

/// What is read, without where it stood.
fn without_places(file: &Dockerfile) -> Vec<String> {
    let of = |debug: String| {
        let mut out = String::new();
        let mut rest = debug.as_str();
        while let Some(at) = rest.find("Span {") {
            out.push_str(&rest[..at]);
            rest = rest[at..].split_once('}').map_or("", |(_, rest)| rest);
        }
        out + rest
    };
    let globals = file.globals.iter().map(|statement| of(format!("{:?}", statement.instruction)));
    let stages = file.stages.iter().flat_map(|stage| {
        std::iter::once(of(format!("{:?}", stage.from)))
            .chain(stage.statements.iter().map(|statement| of(format!("{:?}", statement.instruction))))
    });
    globals.chain(stages).collect()
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let Ok(source) = Source::new("Dockerfile", text.as_bytes()) else { return Ok(()) };
    let within = |span: Span| span.start <= span.end && source.text().get(span.range()).is_some();
    let report = run(&source, &Options::default(), None, &mut |_| Some(base()));
    for warning in &report.warnings {
        prop_assert!(within(warning.span), "{warning:?}");
        prop_assert!(warning.lines.first <= warning.lines.last && warning.lines.last <= source.lines(), "{warning:?}");
    }
    if let Some(error) = &report.error {
        prop_assert!(error.span.is_none_or(within), "{error:?}");
        prop_assert!(
            error.lines.is_none_or(|lines| lines.first <= lines.last && lines.last <= source.lines()),
            "{error:?}"
        );
        drop((error.caret(&source), error.docker(&source)));
    }
    let Ok(file) = Dockerfile::parse(&source) else { return Ok(()) };
    let options = Options::default();
    if let Ok(plan) = Plan::new(&file, &options)
        && let Ok(evaluation) = Evaluation::new(&plan, None)
    {
        for stage in &evaluation.stages {
            prop_assert!(stage.env().all(|(_, value)| value.len() <= limits::EXPANSION));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_are_survived(text in texts()) {
        check(&text)?;
        check(&format!("FROM scratch AS base\n{text}"))?;
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(source) = Source::new("Dockerfile", &bytes) {
            check(source.text())?;
        }
        drop(Ignore::parse(&bytes));
    }

    #[test]
    fn what_is_written_is_read_again(text in files()) {
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        if let Ok(file) = Dockerfile::parse(&source) {
            let written = file.to_text();
            let again = Source::new("Dockerfile", written.as_bytes()).unwrap();
            let again = Dockerfile::parse(&again).map_err(|failure| TestCaseError::fail(format!("{failure}\n{written}")))?;
            prop_assert_eq!(without_places(&file), without_places(&again), "{}", written);
        }
    }

    #[test]
    fn skipped_directories_have_nothing_below(
        patterns in prop::collection::vec("!?[ab*/?]{1,6}", 1..5),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
        below in "[ab]{1,2}(/[ab]{1,2}){0,2}",
    ) {
        if let Ok(ignore) = Ignore::parse(patterns.join("\n").as_bytes())
            && ignore.skips(&path)
        {
            prop_assert!(ignore.excludes(&path));
            let below = format!("{path}/{below}");
            prop_assert!(ignore.excludes(&below), "{:?} {}", patterns, below);
        }
    }
}

#[test]
fn growth_over_instructions_ends() {
    let text = format!("FROM scratch\nENV a=xxxxxxxxxxxxxxxx\n{}", "ENV a=$a$a\n".repeat(1000));
    let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
    let report = run(&source, &Options::default(), None, &mut |_| None);
    assert!(report.error.unwrap().to_string().contains("longer than"), "doubled a thousand times");
    let stages =
        format!("FROM scratch AS a\nENV a={}\nFROM a AS a\n{}", "x".repeat(900_000), "FROM a AS a\n".repeat(990));
    let source = Source::new("Dockerfile", stages.as_bytes()).unwrap();
    assert!(run(&source, &Options::default(), None, &mut |_| None).error.is_some());
}

#[test]
fn big_files_are_read_or_refused() {
    for text in [
        "RUN x\n".repeat(limits::INSTRUCTIONS + 1),
        format!("RUN {}", "x ".repeat(limits::LINE)),
        format!("RUN {}", "x \\\n".repeat(limits::LINE / 2)),
        format!("RUN {}\n", "<<E ".repeat(limits::HEREDOCS + 1)),
        format!("VOLUME {}", "x ".repeat(limits::WORDS + 1)),
        format!("COPY {}a b", "--exclude=a ".repeat(limits::FLAGS + 1)),
        format!("CMD {}", "[".repeat(1 << 19)),
        format!("ENV {}", "$u=1 ".repeat(limits::WORDS)),
        format!("LABEL {}", (0..limits::WORDS).map(|n| format!("a=$n{n} ")).collect::<String>()),
        "\\\n".repeat(1 << 20),
        "#\n".repeat(1 << 20),
        "FROM a AS b\n".repeat(limits::STAGES + 1),
    ] {
        let text = format!("FROM scratch\n{text}");
        if let Ok(source) = Source::new("Dockerfile", text.as_bytes()) {
            drop(run(&source, &Options::default(), None, &mut |_| None));
        }
    }
}

/// Work that grows with the product of two of a file's parts would take minutes here.
#[test]
fn what_is_looked_up_is_not_gone_through() {
    let names = |n: usize| (0..n).map(|n| format!("a{n:07}")).collect::<Vec<_>>().join(" ");
    let args = format!("ARG {}\n", names(9_000)).repeat(20);
    let mounts: String = (0..60_000).map(|n| format!("RUN --mount=type=secret,id=s{n} x\n")).take(18_000).collect();
    let undefined: String = (0..10_000).map(|n| format!("ENV b{n:07}=$c{n:07}$d{n:07}\n")).collect();
    let skips = format!("# check=skip={}\n", "Rule,".repeat(100_000));
    for text in [
        format!("{args}FROM scratch\n{args}"),
        format!("FROM scratch\n{mounts}"),
        format!("{skips}FROM scratch\n{undefined}"),
    ] {
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        let file = Dockerfile::parse(&source).unwrap();
        let options = Options::default();
        let plan = Plan::new(&file, &options).unwrap();
        let evaluation = Evaluation::new(&plan, None).unwrap();
        assert!(evaluation.warnings.len() <= limits::WARNINGS);
        drop(dockerfile::outline::outline(&plan, &evaluation, &source));
    }
}
