//! What a build can be told: its targets, and for one of them arguments, secrets, agents and caches.
//!
//! Serialised these are the JSON of `docker buildx build --call outline,format=json` and `--call targets,format=json`.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use crate::check::{LineRange, base64};
use crate::evaluate::Evaluation;
use crate::instruction::{Instruction, MountKind, Statement};
use crate::plan::Plan;
use crate::scope::{platform_args, predefined};
use crate::source::{Lines, Source};

/// What one target can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The target's name, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// From the comment before its FROM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Arguments of the target and of the stages that it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<OutlineArg>,
    /// Secrets that commands mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<OutlineMount>,
    /// SSH agents that they mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<OutlineMount>,
    /// Caches that they mount, by id or path. The builder does not print them.
    #[serde(skip)]
    pub cache: Vec<OutlineMount>,
    /// The file in base64.
    pub sources: Vec<String>,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// From the comment before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is in this build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where it is declared; before the first stage if it is there.
    pub location: LineRange,
}

/// Something that a command mounts from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineMount {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The command.
    pub location: LineRange,
}

/// The stages that can be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Targets {
    /// All of them, in the order of the file.
    pub targets: Vec<Target>,
    /// The file in base64.
    pub sources: Vec<String>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name in lower case, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is built when nobody says otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// From the comment before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it begins with, as written.
    pub base: String,
    /// Its platform, as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Its FROM.
    pub location: LineRange,
}

/// What comments say of a name: the rest of the first line that begins with it.
#[must_use]
pub(crate) fn description(comments: &[String], name: &str) -> Option<String> {
    let rest = comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '))?;
    Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty())
}

/// Whether comments are about a name.
#[must_use]
pub(crate) fn describes(comments: &[String], name: &str) -> bool {
    comments
        .iter()
        .any(|comment| comment.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
}

/// The targets of a file.
#[must_use]
pub fn targets(file: &crate::Dockerfile, source: &Source) -> Targets {
    let last = file.stages.len().saturating_sub(1);
    let stages = file.stages.iter().enumerate().map(|(index, stage)| Target {
        name: stage.name.clone(),
        default: index == last,
        description: stage.name.as_ref().and_then(|name| description(&stage.comments, name)).unwrap_or_default(),
        base: stage.from.base.text.clone(),
        platform: stage.from.platform.as_ref().map_or(String::new(), |word| word.text.clone()),
        location: stage.lines.into(),
    });
    Targets { targets: stages.collect(), sources: vec![base64(source.text().as_bytes())] }
}

/// The outline of a plan's target.
#[must_use]
pub fn outline(plan: &Plan<'_>, evaluation: &Evaluation, source: &Source) -> Outline {
    let stage = &plan.file.stages[plan.target];
    let mut outline = Outline {
        name: stage.name.clone().unwrap_or_default(),
        description: stage.name.as_ref().and_then(|name| description(&stage.comments, name)).unwrap_or_default(),
        sources: vec![base64(source.text().as_bytes())],
        ..Outline::default()
    };
    let known = platform_args(&plan.options.target_platform, &plan.options.build_platform, None);
    let globals: HashMap<&str, &Statement> =
        plan.file.global_args().map(|(statement, arg)| (arg.name.text.as_str(), statement)).collect();
    let mut seen = BTreeSet::new();
    // Where each mount is in its list, by its kind and name.
    let mut places: HashMap<(&str, String), usize> = HashMap::new();
    for step in evaluation.stages.iter().flat_map(|stage| &stage.steps) {
        let statement = &step.statement;
        if let Instruction::Arg(args) = &statement.instruction {
            for arg in args {
                let name = &arg.name.text;
                if known.contains_key(name) || predefined(name) || !seen.insert(name.clone()) {
                    continue;
                }
                let (comments, lines): (&[String], Lines) = match globals.get(name.as_str()) {
                    Some(global) => (&global.comments, global.lines),
                    None => (&statement.comments, statement.lines),
                };
                outline.args.push(OutlineArg {
                    name: name.clone(),
                    description: description(comments, name)
                        .or_else(|| description(&statement.comments, name))
                        .unwrap_or_default(),
                    value: arg.default.as_ref().map(|word| word.text.clone()),
                    location: lines.into(),
                });
            }
        }
        for mount in &step.mounts {
            let (kind, list, name, required) = match &mount.kind {
                MountKind::Secret { id, required, .. } => ("secret", &mut outline.secrets, id, *required),
                MountKind::Ssh { id, required, .. } => ("ssh", &mut outline.ssh, id, *required),
                MountKind::Cache { id, .. } => {
                    ("cache", &mut outline.cache, if id.is_empty() { &mount.target } else { id }, false)
                }
                MountKind::Bind { .. } | MountKind::Tmpfs { .. } => continue,
            };
            match places.entry((kind, name.clone())) {
                Entry::Occupied(place) => list[*place.get()].required |= required,
                Entry::Vacant(place) => {
                    place.insert(list.len());
                    list.push(OutlineMount { name: name.clone(), required, location: statement.lines.into() });
                }
            }
        }
    }
    outline.args.sort_by_key(|arg| arg.location.first_line());
    outline
}
