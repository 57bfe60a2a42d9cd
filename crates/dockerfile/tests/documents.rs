//! What serialises here is what Docker's client prints: outline, targets and findings, recorded from Docker 28.5.

use dockerfile::check::run;
use dockerfile::outline::{outline, targets};
use dockerfile::{Dockerfile, Evaluation, Options, Plan, Source};
use serde_json::Value;
use types::Platform;

fn source(text: &str) -> Source {
    Source::new("Dockerfile", text.as_bytes()).unwrap()
}

/// The builder keeps mounts in a map and so in no order.
fn sorted(mut outline: Value) -> Value {
    for key in ["secrets", "ssh"] {
        if let Some(Value::Array(mounts)) = outline.get_mut(key) {
            mounts.sort_by_key(|mount| mount["name"].as_str().unwrap().to_owned());
        }
    }
    outline
}

#[test]
fn outlines_and_targets_are_those_of_the_builder() {
    let source = source(include_str!("cases/outline.dockerfile"));
    let file = Dockerfile::parse(&source).unwrap();
    let amd64 = Platform::new("linux", "amd64", "");
    let options = Options {
        target: Some("rel".to_owned()),
        target_platform: amd64.clone(),
        build_platform: amd64,
        ..Options::default()
    };
    let plan = Plan::new(&file, &options).unwrap();
    let evaluation = Evaluation::new(&plan, None).unwrap();
    let ours = outline(&plan, &evaluation, &source);
    let caches: Vec<_> = ours.cache.iter().map(|cache| cache.name.as_str()).collect();
    assert_eq!(caches, ["/oc", "/c", "dd"]);
    let theirs: Value = serde_json::from_str(include_str!("cases/outline.json")).unwrap();
    assert_eq!(sorted(serde_json::to_value(&ours).unwrap()), sorted(theirs));
    let theirs: Value = serde_json::from_str(include_str!("cases/targets.json")).unwrap();
    assert_eq!(serde_json::to_value(targets(&file, &source)).unwrap(), theirs);
}

#[test]
fn findings_are_those_of_the_builder() {
    let source = source(include_str!("cases/check.dockerfile"));
    let mut report = run(&source, &Options::default(), None, &mut |_| None);
    report.warnings.sort_by_key(|warning| (warning.lines.first, warning.rule.name()));
    let theirs: Value = serde_json::from_str(include_str!("cases/check.json")).unwrap();
    assert_eq!(serde_json::to_value(report.result(&source)).unwrap(), theirs);
    let text = report.text(&source);
    assert!(text.starts_with("Check complete, 3 warnings have been found!\n\nWARNING: StageNameCasing\nStage name 'Base' should be lowercase\nDockerfile:1\n--------------------\n   1 | >>> FROM scratch AS Base\n"), "{text}");
}

#[test]
fn a_file_without_findings_has_none() {
    let source = source("FROM scratch\n");
    let report = run(&source, &Options::default(), None, &mut |_| None);
    assert_eq!(serde_json::to_value(report.result(&source)).unwrap()["warnings"], Value::Null);
    assert_eq!(report.text(&source), "Check complete, no warnings found.\n");
}
