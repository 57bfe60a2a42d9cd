//! How a result came about, in the form of SLSA: who built it, of what, and how it was asked for.
//!
//! In short (`mode=min`) arguments, labels, names of secrets and times are left out: the same build gives the same text. Of
//! secrets there are the names alone, in full (`mode=max`).

use std::collections::{BTreeMap, BTreeSet};

use buildkit::wire::llb::{MountType, OpOp};
use serde_json::{Map, Value, json};
use types::{Platform, Reference};

use super::asked::Provenance;
use super::{About, Statement, llb, purl};
use crate::graph::Graph;
use crate::history::without_password;
use crate::job::Invocation;

const V02: &str = "https://slsa.dev/provenance/v0.2";
const V1: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";
const BUILD_TYPE_V1: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const HERMETIC: &str = "https://mobyproject.org/buildkit@v1#hermetic";
const METADATA: &str = "https://mobyproject.org/buildkit@v1#metadata";

/// What the steps of a result take from elsewhere.
#[derive(Default)]
struct Taken {
    /// Images, as the registry's name and digest.
    materials: BTreeSet<(String, String)>,
    locals: BTreeSet<String>,
    /// Names, and whether a build goes on without.
    secrets: BTreeMap<String, bool>,
    ssh: BTreeMap<String, bool>,
    /// A step reached a network.
    network: bool,
    /// Something came from where no digest is known of.
    unknown: bool,
}

/// The statement.
pub(super) fn make(asked: &Provenance, about: &About<'_>) -> Statement {
    let graph = about.reference.map(|reference| &*reference.graph);
    let taken = graph.map(|graph| taken(graph, about)).unwrap_or_default();
    let invocation = about.job.invocation();
    let parameters = parameters(asked, &invocation, &taken);
    let complete = asked.full || !invocation.attrs.keys().any(|key| is_left_out(key));
    let host = Platform::host().to_string();
    let metadata = metadata(asked, &invocation, about);
    let materials: Vec<Value> = taken
        .materials
        .iter()
        .map(|(uri, digest)| json!({ "uri": uri, "digest": { "sha256": digest.trim_start_matches("sha256:") } }))
        .collect();
    let config = asked.full.then(|| graph.map(llb::config)).flatten();
    let file = invocation.attrs.get("filename").filter(|name| !name.is_empty()).cloned();
    let file = file.or_else(|| invocation.frontend.starts_with("dockerfile").then(|| "Dockerfile".to_owned()));
    // Whether everything it is made of is named: files of the client have no digest here.
    let known = !taken.unknown && taken.locals.is_empty();
    let hermetic = known && !taken.network;
    let (predicate_type, predicate) = if asked.v1 {
        let mut internal = json!({ "builderPlatform": host });
        put(&mut internal, "buildConfig", config);
        let mut source = json!({});
        put(&mut source, "path", file);
        let mut run = json!({ "buildkit_hermetic": hermetic, "buildkit_completeness": { "request": complete, "resolvedDependencies": known } });
        put(&mut run, "buildkit_reproducible", asked.reproducible.then_some(true));
        put(&mut run, "buildkit_metadata", metadata);
        if asked.full {
            put(&mut run, "invocationId", Some(about.job.id.clone()));
            put(&mut run, "startedOn", Some(about.job.started.to_string()));
            put(&mut run, "finishedOn", Some(jiff::Timestamp::now().to_string()));
        }
        let predicate = json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE_V1,
                "externalParameters": { "configSource": source, "request": parameters },
                "internalParameters": internal,
                "resolvedDependencies": materials,
            },
            "runDetails": { "builder": { "id": asked.builder }, "metadata": run },
        });
        (V1, predicate)
    } else {
        let mut source = json!({});
        put(&mut source, "entryPoint", file);
        let mut run = json!({
            "completeness": { "parameters": complete, "environment": true, "materials": known },
            "reproducible": asked.reproducible,
            HERMETIC: hermetic,
        });
        put(&mut run, METADATA, metadata);
        if asked.full {
            put(&mut run, "buildInvocationID", Some(about.job.id.clone()));
            put(&mut run, "buildStartedOn", Some(about.job.started.to_string()));
            put(&mut run, "buildFinishedOn", Some(jiff::Timestamp::now().to_string()));
        }
        let mut predicate = json!({
            "builder": { "id": asked.builder },
            "buildType": BUILD_TYPE_V02,
            "materials": materials,
            "invocation": { "configSource": source, "parameters": parameters, "environment": { "platform": host } },
        });
        put(&mut predicate, "buildConfig", config);
        put(&mut predicate, "metadata", Some(run));
        (V02, predicate)
    };
    Statement { filename: asked.filename.clone(), predicate_type, predicate }
}

fn put(object: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
        object.insert(key.to_owned(), value.into());
    }
}

/// What is only said in full.
fn is_left_out(key: &str) -> bool {
    key.starts_with("build-arg:") || key.starts_with("label:")
}

/// How the build was asked for.
fn parameters(asked: &Provenance, invocation: &Invocation, taken: &Taken) -> Value {
    let mut out = json!({});
    put(&mut out, "frontend", Some(invocation.frontend.clone()).filter(|name| !name.is_empty()));
    // About this machine, or said elsewhere.
    let elsewhere = |key: &str| {
        key.starts_with("attest:")
            || key.starts_with("vcs:")
            || matches!(
                key,
                "filename" | "cgroup-parent" | "image-resolve-mode" | "platform" | "cache-imports" | "add-hosts"
            )
    };
    let args: Map<String, Value> = invocation
        .attrs
        .iter()
        .filter(|(key, _)| !elsewhere(key) && (asked.full || !is_left_out(key)))
        .map(|(key, value)| (key.clone(), Value::from(without_password(value))))
        .collect();
    put(&mut out, "args", Some(args).filter(|args| !args.is_empty()));
    let named = |names: &BTreeMap<String, bool>| {
        let each = names.iter().map(|(id, optional)| match optional {
            true => json!({ "id": id, "optional": true }),
            false => json!({ "id": id }),
        });
        Some(each.collect::<Vec<_>>()).filter(|list| !list.is_empty() && asked.full)
    };
    put(&mut out, "secrets", named(&taken.secrets));
    put(&mut out, "ssh", named(&taken.ssh));
    let locals: Vec<Value> = taken.locals.iter().map(|name| json!({ "name": name })).collect();
    put(&mut out, "locals", Some(locals).filter(|locals| !locals.is_empty()));
    out
}

/// Where the sources are kept, and in full the text that the steps came from.
fn metadata(asked: &Provenance, invocation: &Invocation, about: &About<'_>) -> Option<Value> {
    let mut out = json!({});
    let vcs: Map<String, Value> = invocation
        .attrs
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("vcs:")?.to_owned(), Value::from(without_password(value)))))
        .collect();
    put(&mut out, "vcs", Some(vcs).filter(|vcs| !vcs.is_empty()));
    if let Some(reference) = about.reference.filter(|_| asked.full) {
        put(&mut out, "source", llb::source(&reference.definition, &reference.graph));
    }
    Some(out).filter(|out| out.as_object().is_some_and(|out| !out.is_empty()))
}

fn taken(graph: &Graph, about: &About<'_>) -> Taken {
    let mut taken = Taken::default();
    for vertex in &graph.vertices {
        match &vertex.op.op {
            Some(OpOp::Source(source)) => {
                let (scheme, rest) = source.identifier.split_once("://").unwrap_or(("", &source.identifier));
                match scheme {
                    "docker-image" => {
                        let platform = vertex.op.platform.as_ref().map(crate::solve::platform);
                        let digest = about.job.build.material(rest, platform.as_ref());
                        let reference = Reference::parse(rest).ok().map(Reference::with_default_tag);
                        match reference.zip(digest) {
                            Some((reference, digest)) => {
                                taken
                                    .materials
                                    .insert((purl(&reference, platform.as_ref().or(Some(about.platform))), digest));
                            }
                            None => taken.unknown = true,
                        }
                    }
                    "local" => {
                        taken.locals.insert(rest.to_owned());
                    }
                    _ => taken.unknown = true,
                }
            }
            Some(OpOp::Exec(exec)) => {
                taken.network |= exec.network != buildkit::wire::llb::NetMode::None as i32;
                for secret in &exec.secretenv {
                    taken.secrets.insert(secret.id.clone(), secret.optional);
                }
                for mount in &exec.mounts {
                    match (MountType::try_from(mount.mount_type), &mount.secret_opt, &mount.ssh_opt) {
                        (Ok(MountType::Secret), Some(secret), _) => {
                            taken.secrets.insert(secret.id.clone(), secret.optional);
                        }
                        (Ok(MountType::Ssh), _, Some(ssh)) => {
                            taken.ssh.insert(ssh.id.clone(), ssh.optional);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // The Dockerfile comes from the client, too, before there are steps.
    if about.job.invocation().frontend.starts_with("dockerfile") {
        taken.locals.insert("dockerfile".to_owned());
    }
    taken
}
