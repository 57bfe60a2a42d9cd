//! What a client asks of the front end beside a build: findings, outline and targets of a Dockerfile, and what can be asked.
//!
//! The answer is in the metadata of a result that builds nothing: JSON for programs, text for people.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use dockerfile::ignore::Ignore;
use dockerfile::outline::{OutlineMount, outline, targets};
use dockerfile::{Base, BaseImage as Begins, Dockerfile, Evaluation, Plan, PlannedStage, Source, check};
use serde::Serialize;
use types::{Kind, Platform, Reference};

use super::{Options, base, dockerfile_error, warn};
use crate::error::{Error, Result};
use crate::export::Step;
use crate::job::{Job, Solved};

/// The version of all answers.
const VERSION: &str = "1.0.0";
/// What can be asked, and what for.
const REQUESTS: [(&str, &str); 4] = [
    ("frontend.lint", "Findings of the build checks"),
    ("frontend.outline", "What a target can be told: arguments, secrets, agents"),
    ("frontend.subrequests.describe", "What can be asked of this front end"),
    ("frontend.targets", "Stages that can be built"),
];

/// Answers a request.
///
/// # Errors
/// A request that there is not; a file of which there is no outline, since it cannot be read.
pub(super) async fn answer(
    job: &Arc<Job>,
    request: &str,
    options: &Options,
    source: &Source,
    ignore: Option<&Ignore>,
) -> Result<Solved> {
    let failed = |error: &dockerfile::Error| dockerfile_error(error, Some(source), "");
    let parsed = || Dockerfile::parse(source).map_err(|failure| failed(&failure.error));
    match request {
        "frontend.lint" => {
            let report =
                with_bases(job, options, |bases| check::run(source, &told(options, true), ignore, bases)).await?;
            let findings = !report.warnings.is_empty() || report.error.is_some();
            let mut text = report.text(source);
            if let Some(error) = &report.error {
                let _ = write!(text, "\nERROR: {}", error.docker(source));
            }
            let mut solved = solved(&report.result(source), text)?;
            let code = if findings { "1" } else { "0" };
            solved.metadata.insert("result.statuscode".to_owned(), code.as_bytes().to_vec());
            Ok(solved)
        }
        "frontend.outline" => {
            let file = parsed()?;
            let told = told(options, false);
            let outlined = with_bases(job, options, |bases| {
                let (plan, evaluation) = evaluated(&file, &told, ignore, bases)?;
                Ok((outline(&plan, &evaluation, source), evaluation.warnings))
            });
            let (outline, warnings) = outlined.await?.map_err(|error| failed(&error))?;
            warn(job, source, &warnings);
            let text = outline_text(&outline);
            solved(&outline, text)
        }
        "frontend.targets" => {
            let targets = targets(&parsed()?, source);
            let mut rows = vec![["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
            rows.extend(targets.targets.iter().map(|target| {
                let name = target.name.as_deref().unwrap_or_default();
                let mark = if target.default { "(default)" } else { "" };
                [format!("{name} {mark}").trim().to_owned(), target.description.clone()]
            }));
            let text = table(&rows);
            solved(&targets, text)
        }
        "frontend.subrequests.describe" => {
            let list: Vec<_> = REQUESTS
                .iter()
                .map(|(name, about)| {
                    serde_json::json!({
                        "name": name, "version": VERSION, "type": "rpc", "description": about,
                        "metadata": [{ "name": "result.json" }, { "name": "result.txt" }],
                    })
                })
                .collect();
            let mut rows = vec![["NAME", "VERSION", "DESCRIPTION"].map(str::to_owned)];
            rows.extend(REQUESTS.map(|(name, about)| [name, VERSION, about].map(str::to_owned)));
            solved(&list, table(&rows))
        }
        other => Err(Error::new(Kind::Invalid, format!("unsupported request {other}"))),
    }
}

fn solved(value: &impl Serialize, text: String) -> Result<Solved> {
    let json = serde_json::to_vec_pretty(value).map_err(|e| Error::io("cannot encode an answer", e))?;
    let metadata = HashMap::from([
        ("result.json".to_owned(), json),
        ("result.txt".to_owned(), text.into_bytes()),
        ("version".to_owned(), VERSION.as_bytes().to_vec()),
    ]);
    Ok(Solved { metadata, ..Solved::default() })
}

fn told(options: &Options, all_stages: bool) -> dockerfile::Options {
    dockerfile::Options {
        build_args: options.build_args.clone(),
        target: options.target.clone(),
        target_platform: options.platforms.first().cloned().unwrap_or_else(Platform::host),
        all_stages,
        ..dockerfile::Options::default()
    }
}

fn evaluated<'a>(
    file: &'a Dockerfile,
    told: &'a dockerfile::Options,
    ignore: Option<&Ignore>,
    bases: &mut dyn FnMut(&PlannedStage) -> Option<Base>,
) -> std::result::Result<(Plan<'a>, Evaluation), dockerfile::Error> {
    let mut plan = Plan::new(file, told).map_err(|failure| failure.error)?;
    loop {
        let asked: Vec<usize> = plan.needed().map(|(index, _)| index).collect();
        if asked.is_empty() {
            let evaluation = Evaluation::new(&plan, ignore).map_err(|failure| failure.error)?;
            return Ok((plan, evaluation));
        }
        for index in asked {
            let base = plan.stages.get(index).and_then(&mut *bases).unwrap_or_default();
            plan.know(index, base).map_err(|failure| failure.error)?;
        }
    }
}

/// Does something that asks for images, again and again until it asks for none that was not looked up.
///
/// # Errors
/// An image is nowhere to be had.
async fn with_bases<T>(
    job: &Arc<Job>,
    options: &Options,
    mut attempt: impl FnMut(&mut dyn FnMut(&PlannedStage) -> Option<Base>) -> T,
) -> Result<T> {
    type Name = (Reference, Option<Platform>);
    let mut known: HashMap<String, Base> = HashMap::new();
    let key = |(reference, platform): &Name| match platform {
        Some(platform) => format!("{reference} {platform}"),
        None => reference.to_string(),
    };
    loop {
        let mut missing: Vec<Name> = Vec::new();
        let done = attempt(&mut |stage| {
            let Begins::Image(reference) = &stage.base else { return None };
            let name = (reference.clone().with_default_tag(), stage.platform.clone());
            match known.get(&key(&name)) {
                Some(found) => Some(found.clone()),
                None => {
                    missing.push(name);
                    None
                }
            }
        });
        if missing.is_empty() {
            return Ok(done);
        }
        for name in missing {
            if known.contains_key(&key(&name)) {
                continue;
            }
            let (reference, platform) = &name;
            let wanted = platform.clone().or_else(|| options.platforms.first().cloned());
            let step = Step::begin(job, &format!("[internal] load metadata for {reference}"));
            let found = job.build.base_image(&reference.to_string(), wanted, Some(&options.resolve_mode)).await;
            step.end(found.as_ref().err());
            let context = format!("failed to resolve source metadata for {reference}");
            known.insert(key(&name), base(&found.map_err(|error| error.context(context))?.image));
        }
    }
}

fn outline_text(outline: &dockerfile::outline::Outline) -> String {
    let mut text = String::new();
    if !outline.name.is_empty() {
        let _ = writeln!(text, "TARGET:\t{}", outline.name);
    }
    if !outline.description.is_empty() {
        let _ = writeln!(text, "DESCRIPTION:\t{}", outline.description);
    }
    let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned)];
    rows.extend(
        outline.args.iter().map(|a| [a.name.clone(), a.value.clone().unwrap_or_default(), a.description.clone()]),
    );
    let mut part = |rows: String| {
        text.push('\n');
        text.push_str(&rows);
    };
    if rows.len() > 1 {
        part(table(&rows));
    }
    for (head, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        let required = |mount: &OutlineMount| if mount.required { "true".to_owned() } else { String::new() };
        let mut rows = vec![[head.to_owned(), "REQUIRED".to_owned()]];
        rows.extend(mounts.iter().map(|mount| [mount.name.clone(), required(mount)]));
        if rows.len() > 1 {
            part(table(&rows));
        }
    }
    text
}

/// Columns, three spaces apart.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}
