//! Dockerfiles and their `.dockerignore` files.

use dockerfile::check;
use dockerfile::ignore::Ignore;
use dockerfile::outline::{outline, targets};
use dockerfile::{Base, Dockerfile, Evaluation, Options, Plan, Source, Span};

/// A Dockerfile, read, planned, evaluated, checked and written again.
pub fn dockerfile_parse(data: &[u8]) {
    let Ok(source) = Source::new("Dockerfile", data) else { return };
    let within = |span: Span| {
        assert!(span.start <= span.end && source.text().get(span.range()).is_some(), "{span:?}");
    };
    let base = || Base {
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        on_build: vec!["COPY --from=a $PATH <<E /x\n$x\nE".to_owned()],
        ..Base::default()
    };
    let report = check::run(&source, &Options::default(), None, &mut |_| Some(base()));
    drop(report.text(&source));
    for warning in &report.warnings {
        within(warning.span);
    }
    if let Some(error) = &report.error {
        drop((error.docker(&source), error.caret(&source)));
        error.span.into_iter().for_each(within);
        assert!(error.lines.is_none_or(|lines| lines.first <= lines.last && lines.last <= source.lines()));
    }

    let Ok(file) = Dockerfile::parse(&source) else { return };
    drop(targets(&file, &source));
    for stage in &file.stages {
        within(stage.span);
        stage.statements.iter().for_each(|statement| within(statement.span));
    }
    let text = file.to_text();
    let again = Source::new("Dockerfile", text.as_bytes()).ok();
    if let Some(again) = again.as_ref().and_then(|again| Dockerfile::parse(again).ok()) {
        assert_eq!(again.to_text(), text);
    }
    let options = Options::default();
    let Ok(plan) = Plan::new(&file, &options) else { return };
    if let Ok(evaluation) = Evaluation::new(&plan, None) {
        drop(outline(&plan, &evaluation, &source));
    }
}

/// Patterns up to the first empty line, and paths behind it.
pub fn dockerfile_ignore(data: &[u8]) {
    let cut = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (patterns, paths) = data.split_at(cut);
    let Ok(ignore) = Ignore::parse(patterns) else { return };
    for path in String::from_utf8_lossy(paths).lines().filter(|path| !path.is_empty()).take(8) {
        let path = path.trim_matches('/');
        if ignore.skips(path) {
            assert!(ignore.excludes(path));
            assert!(ignore.excludes(&format!("{path}/below")) || path.len() + 6 > dockerfile::limits::IGNORE_PATTERN);
        }
    }
}
