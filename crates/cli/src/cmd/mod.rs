//! The command tree: every command in one table, one file per command or family.

mod attach;
mod build;
mod commit;
mod context;
mod cp;
mod df;
mod dial;
mod events;
mod exec;
mod fsck;
mod history;
mod image_diff;
mod images;
mod info;
mod inspect;
mod lifecycle;
mod load;
mod login;
mod logs;
mod manifest;
mod network;
mod parallel;
mod pin;
mod port;
mod prune;
mod ps;
mod pull;
mod referrers;
mod registry;
mod rmi;
mod run;
mod start;
mod stats;
mod top;
mod tree;
mod update;
mod verify;
mod version;
mod versions;
mod volume;
mod volume_content;
mod wait;

use std::collections::BTreeMap;

use crate::flags::{Command, Flag, Group};

pub(crate) const GROUPS: &[Group] = &[
    Group { name: "container", about: "Manage containers" },
    Group { name: "context", about: "Manage contexts" },
    Group { name: "image", about: "Manage images" },
    Group { name: "manifest", about: "Manage manifest lists, which give one name to images for several platforms" },
    Group { name: "network", about: "Manage networks" },
    Group { name: "registry", about: "Serve images to others" },
    Group { name: "system", about: "Manage the engine" },
    Group { name: "volume", about: "Manage volumes" },
];

pub(crate) const COMMANDS: &[&Command] = &[
    &build::BUILD,
    &run::RUN,
    &run::CREATE,
    &start::START,
    &attach::ATTACH,
    &exec::EXEC,
    &logs::LOGS,
    &ps::PS,
    &lifecycle::STOP,
    &lifecycle::RESTART,
    &lifecycle::KILL,
    &lifecycle::PAUSE,
    &lifecycle::UNPAUSE,
    &lifecycle::RM,
    &lifecycle::RENAME,
    &wait::WAIT,
    &inspect::INSPECT,
    &inspect::CONTAINER,
    &inspect::IMAGE,
    &inspect::VOLUME,
    &inspect::NETWORK,
    &top::TOP,
    &port::PORT,
    &cp::CP,
    &cp::DIFF,
    &cp::EXPORT,
    &stats::STATS,
    &update::UPDATE,
    &commit::COMMIT,
    &prune::CONTAINER,
    &prune::IMAGE,
    &prune::VOLUME,
    &prune::NETWORK,
    &prune::SYSTEM,
    &images::IMAGES,
    &pull::PULL,
    &pull::PUSH,
    &load::LOAD,
    &load::SAVE,
    &load::IMPORT,
    &rmi::TAG,
    &rmi::RMI,
    &history::HISTORY,
    &image_diff::DIFF,
    &referrers::REFERRERS,
    &versions::LOG,
    &versions::ROLLBACK,
    &pin::PIN,
    &pin::UNPIN,
    &manifest::CREATE,
    &manifest::ANNOTATE,
    &manifest::INSPECT,
    &manifest::PUSH,
    &manifest::RM,
    &verify::VERIFY,
    &volume::CREATE,
    &volume::LS,
    &volume::RM,
    &volume_content::EXPORT,
    &volume_content::IMPORT,
    &volume_content::CLONE,
    &volume_content::SNAPSHOT,
    &volume_content::ROLLBACK,
    &network::CREATE,
    &network::LS,
    &network::RM,
    &network::CONNECT,
    &network::DISCONNECT,
    &registry::SERVE,
    &events::EVENTS,
    &info::INFO,
    &version::VERSION,
    &df::DF,
    &fsck::FSCK,
    &dial::DIAL,
    &login::LOGIN,
    &login::LOGOUT,
    &context::LS,
    &context::SHOW,
    &context::USE,
    &context::INSPECT,
];

/// Flags several commands have.
pub(crate) const FORMAT: Flag = Flag::text("format", "'table', 'table TEMPLATE', 'json' or a Go template");
pub(crate) const INSPECT_FORMAT: Flag = Flag::text("format", "'json' or a Go template").short('f');
pub(crate) const FILTER: Flag =
    Flag::list("filter", "Condition the shown must meet (key=value)").short('f').value("filter");
pub(crate) const NO_TRUNC: Flag = Flag::switch("no-trunc", "Do not shorten what is shown");
pub(crate) const DETACH_KEYS: Flag = Flag::text("detach-keys", "Keys that detach from the container");

/// The command the first words name, the name used and how many words it took. Longer names win.
pub(crate) fn find(words: &[String]) -> Option<(&'static Command, &'static str, usize)> {
    for length in [2, 1] {
        if words.len() < length {
            continue;
        }
        let name = words[..length].join(" ");
        for command in COMMANDS {
            if let Some(path) = command.paths.iter().find(|path| **path == name) {
                return Some((command, path, length));
            }
        }
    }
    None
}

/// A command whose name is at most a third of its letters off.
pub(crate) fn nearest(word: &str) -> Option<&'static str> {
    COMMANDS
        .iter()
        .flat_map(|command| command.paths)
        .filter(|path| !path.contains(' '))
        .map(|path| (distance(word, path), *path))
        .filter(|(distance, path)| *distance <= path.len() / 3)
        .min()
        .map(|(_, path)| path)
}

/// Edit distance, for words of a bounded length.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(32).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (corner + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

/// `filters` parameter of list requests: `{"key":{"value":true}}`; nothing when there are none.
pub(crate) fn filters<'a>(values: impl Iterator<Item = &'a str>) -> crate::Result<Option<String>> {
    let mut map: BTreeMap<String, BTreeMap<&str, bool>> = BTreeMap::new();
    for text in values.filter(|text| !text.is_empty()) {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            crate::Error::with_code(
                format!("invalid argument {text:?} for \"-f, --filter\" flag: invalid filter '{text}'"),
                125,
            )
        })?;
        map.entry(key.trim().to_lowercase()).or_default().insert(value.trim(), true);
    }
    Ok((!map.is_empty()).then(|| serde_json::json!(map).to_string()))
}

/// `/containers/NAME` followed by `rest`.
pub(crate) fn container_path(name: &str, rest: &str) -> String {
    format!("/containers/{}{rest}", client::escape_segment(name))
}

/// First twelve characters of an ID without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_command() {
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        assert_eq!(find(&words("container ls -a")).unwrap().1, "container ls");
        assert_eq!(find(&words("ps")).unwrap().0.paths[0], "container ls");
        assert_eq!(find(&words("volume ls")).unwrap().2, 2);
        assert!(find(&words("container")).is_none());
        assert_eq!(nearest("imges"), Some("images"));
        assert_eq!(nearest("xyzzy"), None);
    }

    #[test]
    fn filters_are_encoded_as_sets() {
        assert_eq!(
            filters(["status=running", "label=a=b", "status=paused"].into_iter()).unwrap().unwrap(),
            r#"{"label":{"a=b":true},"status":{"paused":true,"running":true}}"#
        );
        assert_eq!(filters([].into_iter()).unwrap(), None);
        assert_eq!(filters(["x"].into_iter()).unwrap_err().exit_code(), 125);
    }
}
