//! A definition as a provenance in full shows it: steps by number, with what they do and the lines they came from.

use std::collections::HashMap;

use base64::Engine as _;
use buildkit::wire::llb::{self, Definition, FileActionAction, MountType, OpOp, UserOptUser};
use serde_json::{Map, Value, json};

use crate::graph::Graph;
use crate::history::without_password;

/// The steps, and the digests by which progress names them.
pub(super) fn config(graph: &Graph) -> Value {
    let steps = graph.vertices.iter().enumerate().map(|(number, vertex)| {
        let inputs: Vec<String> =
            vertex.inputs.iter().map(|edge| format!("step{}:{}", edge.vertex, edge.output)).collect();
        let mut op = json!({ "Op": vertex.op.op.as_ref().map(operation) });
        if let (Some(op), Some(platform)) = (op.as_object_mut(), &vertex.op.platform) {
            let platform = crate::solve::platform(platform);
            op.insert("platform".to_owned(), serde_json::to_value(platform).unwrap_or_default());
        }
        json!({ "id": format!("step{number}"), "op": op, "inputs": inputs })
    });
    let steps: Vec<Value> = steps.collect();
    let digests = graph.vertices.iter().enumerate();
    let digests: Map<String, Value> =
        digests.map(|(number, vertex)| (vertex.digest.clone(), format!("step{number}").into())).collect();
    json!({ "llbDefinition": steps, "digestMapping": digests })
}

/// The text that steps came from, and which lines of it.
pub(super) fn source(definition: &Definition, graph: &Graph) -> Option<Value> {
    let source = definition.source.as_ref()?;
    let numbers: HashMap<&str, usize> =
        graph.vertices.iter().enumerate().map(|(number, vertex)| (vertex.digest.as_str(), number)).collect();
    let infos: Vec<Value> = source
        .infos
        .iter()
        .map(|info| {
            let data = base64::engine::general_purpose::STANDARD.encode(&info.data);
            json!({ "filename": info.filename, "language": info.language, "data": data })
        })
        .collect();
    let position = |position: &Option<llb::Position>| json!({ "line": position.as_ref().map_or(0, |at| at.line) });
    let mut locations: Vec<(usize, Value)> = source
        .locations
        .iter()
        .filter_map(|(digest, found)| {
            let each = found.locations.iter().map(|location| {
                let ranges = location.ranges.iter();
                let ranges =
                    ranges.map(|range| json!({ "start": position(&range.start), "end": position(&range.end) }));
                json!({ "sourceIndex": location.source_index, "ranges": ranges.collect::<Vec<_>>() })
            });
            Some((*numbers.get(digest.as_str())?, json!({ "locations": each.collect::<Vec<_>>() })))
        })
        .collect();
    locations.sort_by_key(|(number, _)| *number);
    let locations: Map<String, Value> =
        locations.into_iter().map(|(number, value)| (format!("step{number}"), value)).collect();
    Some(json!({ "infos": infos, "locations": locations }))
}

fn operation(op: &OpOp) -> Value {
    match op {
        OpOp::Source(source) => {
            // Which client sends files changes with every build.
            let attrs =
                source.attrs.iter().filter(|(key, _)| !matches!(key.as_str(), "local.session" | "local.unique"));
            let mut attrs: Vec<_> = attrs.collect();
            attrs.sort();
            let attrs: Map<String, Value> =
                attrs.into_iter().map(|(key, value)| (key.clone(), without_password(value).into())).collect();
            json!({ "source": { "identifier": without_password(&source.identifier), "attrs": attrs } })
        }
        OpOp::Exec(exec) => json!({ "exec": run(exec) }),
        OpOp::File(file) => {
            let actions = file.actions.iter().map(|action| {
                json!({
                    "input": action.input, "secondaryInput": action.secondary_input, "output": action.output,
                    "Action": action.action.as_ref().map(file_action),
                })
            });
            json!({ "file": { "actions": actions.collect::<Vec<_>>() } })
        }
        OpOp::Merge(merge) => {
            json!({ "merge": { "inputs": merge.inputs.iter().map(|input| json!({ "input": input.input })).collect::<Vec<_>>() } })
        }
        OpOp::Diff(diff) => json!({ "diff": {
            "lower": diff.lower.as_ref().map(|lower| json!({ "input": lower.input })),
            "upper": diff.upper.as_ref().map(|upper| json!({ "input": upper.input })),
        } }),
        OpOp::Build(_) => json!({ "build": {} }),
    }
}

fn run(exec: &llb::ExecOp) -> Value {
    let meta = exec.meta.clone().unwrap_or_default();
    let mounts = exec.mounts.iter().map(|mount| {
        let kind = MountType::try_from(mount.mount_type).map_or("", |kind| match kind {
            MountType::Bind => "bind",
            MountType::Secret => "secret",
            MountType::Ssh => "ssh",
            MountType::Cache => "cache",
            MountType::Tmpfs => "tmpfs",
        });
        json!({
            "input": mount.input, "output": mount.output, "dest": mount.dest, "selector": mount.selector,
            "readonly": mount.readonly, "mountType": kind,
            "id": mount.secret_opt.as_ref().map(|secret| &secret.id).or(mount.cache_opt.as_ref().map(|cache| &cache.id)),
        })
    });
    let secrets = exec
        .secretenv
        .iter()
        .map(|secret| json!({ "id": secret.id, "name": secret.name, "optional": secret.optional }));
    json!({
        "meta": { "args": meta.args, "env": meta.env, "cwd": meta.cwd, "user": meta.user, "hostname": meta.hostname },
        "mounts": mounts.collect::<Vec<_>>(),
        "network": exec.network, "security": exec.security,
        "secretenv": secrets.collect::<Vec<_>>(),
    })
}

fn file_action(action: &FileActionAction) -> Value {
    match action {
        FileActionAction::Copy(copy) => json!({ "copy": {
            "src": copy.src, "dest": copy.dest, "owner": owner(&copy.owner), "mode": copy.mode, "modeStr": copy.mode_str,
            "followSymlink": copy.follow_symlink, "dirCopyContents": copy.dir_copy_contents,
            "attemptUnpackDockerCompatibility": copy.attempt_unpack_docker_compatibility,
            "createDestPath": copy.create_dest_path, "allowWildcard": copy.allow_wildcard,
            "allowEmptyWildcard": copy.allow_empty_wildcard, "timestamp": copy.timestamp,
            "includePatterns": copy.include_patterns, "excludePatterns": copy.exclude_patterns,
        } }),
        FileActionAction::Mkfile(make) => json!({ "mkfile": {
            "path": make.path, "mode": make.mode, "owner": owner(&make.owner), "timestamp": make.timestamp,
            "data": base64::engine::general_purpose::STANDARD.encode(&make.data),
        } }),
        FileActionAction::Mkdir(make) => json!({ "mkdir": {
            "path": make.path, "mode": make.mode, "makeParents": make.make_parents, "owner": owner(&make.owner),
            "timestamp": make.timestamp,
        } }),
        FileActionAction::Rm(remove) => json!({ "rm": {
            "path": remove.path, "allowNotFound": remove.allow_not_found, "allowWildcard": remove.allow_wildcard,
        } }),
        FileActionAction::Symlink(link) => json!({ "symlink": {
            "oldpath": link.oldpath, "newpath": link.newpath, "owner": owner(&link.owner), "timestamp": link.timestamp,
        } }),
    }
}

fn owner(owner: &Option<llb::ChownOpt>) -> Value {
    let one = |user: &Option<llb::UserOpt>| match user.as_ref().and_then(|user| user.user.as_ref()) {
        Some(UserOptUser::ByName(named)) => json!({ "byName": { "name": named.name, "input": named.input } }),
        Some(UserOptUser::ById(id)) => json!({ "byID": id }),
        None => Value::Null,
    };
    owner.as_ref().map_or(Value::Null, |owner| json!({ "user": one(&owner.user), "group": one(&owner.group) }))
}
