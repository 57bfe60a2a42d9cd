//! The policy: which repositories' images must be signed, and by whom.
//!
//! A file that says anything unknown, twice, or about a signer that is not there is refused whole: a policy that is half
//! understood lets through what it was written against. Keys are not read here, but when a rule asks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use types::Reference;

use crate::{POLICY_MAX, json};

/// Rules, and signers, of one policy.
const ENTRIES_MAX: usize = 4096;

/// Why a policy was not taken: the file, the place and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the trust policy {file} cannot be used: {why}")]
pub struct PolicyError {
    /// Where it came from.
    pub file: String,
    /// With the place in front.
    pub why: String,
}

/// Whether a verdict counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What is not as the rule says is refused.
    #[default]
    Enforce,
    /// It is told of, and let through.
    DryRun,
}

/// What a run looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRun {
    /// The verdict that was recorded when the image was pulled; no network.
    #[default]
    Recorded,
    /// The signatures the registry has now.
    Recheck,
}

/// Which document of a multi-platform image must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signed {
    /// Index or the platform's manifest.
    #[default]
    Either,
    /// What the reference stands for: the index, of an image that has one. As `cosign verify` asks.
    Index,
    /// The platform's manifest, as containers/image asks.
    Platform,
}

/// How many of a rule's signers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// One of them.
    Any,
    /// Each of them.
    All,
}

/// What a rule asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Accept,
    /// That there be no such image.
    Reject,
    /// Signatures.
    Require {
        /// How many of the signers.
        need: Need,
        /// Their names, none twice.
        signers: Vec<String>,
    },
}

/// A rule with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `docker.io/library`, or `default`.
    pub scope: String,
    /// What is asked.
    pub action: Action,
    /// Whether it counts.
    pub mode: Mode,
    /// Whether images made here (built, committed, imported, loaded) may have such names.
    pub local: bool,
    /// What a run looks at.
    pub on_run: OnRun,
    /// Which document must be signed.
    pub signed: Signed,
}

/// How the reference in a signed payload must relate to the image's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReferenceMatch {
    /// Repository and tag, or digest.
    Exact,
    /// The repository.
    #[default]
    Repository,
    /// Not at all: whoever has a signed image under one name may offer it under any other.
    Any,
}

/// How much of Notation's verification counts (trust policy specification, "Signature Verification Levels").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    #[default]
    Strict,
    Permissive,
    Audit,
    /// Refused: a rule that accepts says the same.
    Skip,
}

/// A signer as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignerSpec {
    Cosign {
        key: Key,
        reference: ReferenceMatch,
        /// Prefix of our name to the prefix the signature has instead.
        remap: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    },
    Notation {
        trust_store: PathBuf,
        identities: Vec<crate::identity::Identity>,
        level: Level,
        annotations: BTreeMap<String, String>,
    },
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    File(PathBuf),
    Data(String),
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The file, for messages.
    pub source: String,
    default: Rule,
    rules: Vec<Rule>,
    signers: BTreeMap<String, SignerSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPolicy {
    version: u64,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    local: Local,
    #[serde(default)]
    on_run: OnRun,
    #[serde(default)]
    signed: Signed,
    default: RawRule,
    #[serde(default)]
    rules: BTreeMap<String, RawRule>,
    #[serde(default)]
    signers: BTreeMap<String, RawSigner>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Local {
    #[default]
    Accept,
    Reject,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawAction {
    Accept,
    Reject,
    Require,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRule {
    action: RawAction,
    any_of: Option<Vec<String>>,
    all_of: Option<Vec<String>>,
    mode: Option<Mode>,
    local: Option<Local>,
    on_run: Option<OnRun>,
    signed: Option<Signed>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Cosign,
    Notation,
    Keyless,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSigner {
    #[serde(rename = "type")]
    kind: Kind,
    key: Option<PathBuf>,
    key_data: Option<String>,
    reference: Option<ReferenceMatch>,
    remap: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    trust_store: Option<PathBuf>,
    identities: Option<Vec<String>>,
    level: Option<Level>,
}

impl Policy {
    /// Reads a policy; `source` is its file.
    ///
    /// # Errors
    /// For everything it does not say in exactly one way.
    pub fn parse(bytes: &[u8], source: &str) -> Result<Self, PolicyError> {
        Self::read(bytes, source).map_err(|why| PolicyError { file: source.to_owned(), why })
    }

    fn read(bytes: &[u8], source: &str) -> Result<Self, String> {
        let raw: RawPolicy = json::parse(bytes, POLICY_MAX)?;
        if raw.version != 1 {
            return Err(format!("at version: {} is not known, write 1", raw.version));
        }
        if raw.rules.len().max(raw.signers.len()) > ENTRIES_MAX {
            return Err(format!("it has more than {ENTRIES_MAX} rules or signers"));
        }
        let mut signers = BTreeMap::new();
        for (name, signer) in raw.signers {
            let read = signer.checked().map_err(|why| format!("at signers.{name}: {why}"))?;
            signers.insert(name, read);
        }
        let rule = |scope: &str, rule: RawRule| {
            let action = rule.action(&signers)?;
            Ok(Rule {
                scope: scope.to_owned(),
                action,
                mode: rule.mode.unwrap_or(raw.mode),
                local: rule.local.unwrap_or(raw.local) == Local::Accept,
                on_run: rule.on_run.unwrap_or(raw.on_run),
                signed: rule.signed.unwrap_or(raw.signed),
            })
        };
        let default = rule("default", raw.default).map_err(|why: String| format!("at default: {why}"))?;
        let mut rules = Vec::with_capacity(raw.rules.len());
        for (scope, raw) in raw.rules {
            let read = check_scope(&scope).and_then(|()| rule(&scope, raw));
            rules.push(read.map_err(|why| format!("at rules.{scope}: {why}"))?);
        }
        Ok(Self { source: source.to_owned(), default, rules, signers })
    }

    /// The rule for a repository: that of the longest scope it is in, or the default.
    #[must_use]
    pub fn rule(&self, reference: &Reference) -> &Rule {
        let (name, domain) = (reference.name(), reference.domain());
        let inside = |rule: &&Rule| {
            let scope = rule.scope.as_str();
            scope == domain || name.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.rules.iter().filter(inside).max_by_key(|rule| rule.scope.len()).unwrap_or(&self.default)
    }

    /// The rule where no other is.
    #[must_use]
    pub fn default_rule(&self) -> &Rule {
        &self.default
    }

    pub(crate) fn spec(&self, name: &str) -> Option<&SignerSpec> {
        self.signers.get(name)
    }
}

impl RawRule {
    fn action(&self, signers: &BTreeMap<String, SignerSpec>) -> Result<Action, String> {
        let (need, names) = match (&self.action, &self.any_of, &self.all_of) {
            (RawAction::Accept, None, None) => return Ok(Action::Accept),
            (RawAction::Reject, None, None) => return Ok(Action::Reject),
            (RawAction::Accept | RawAction::Reject, ..) => {
                return Err("signers are for rules whose action is require".to_owned());
            }
            (RawAction::Require, Some(names), None) => (Need::Any, names),
            (RawAction::Require, None, Some(names)) => (Need::All, names),
            (RawAction::Require, ..) => return Err("require needs any-of or all-of, one of the two".to_owned()),
        };
        if names.is_empty() {
            return Err("a list of no signers can never be met: write reject".to_owned());
        }
        let mut seen = BTreeSet::new();
        for name in names {
            if !signers.contains_key(name) {
                return Err(format!("there is no signer {name:?}"));
            }
            if !seen.insert(name) {
                return Err(format!("the signer {name:?} is there twice"));
            }
        }
        Ok(Action::Require { need, signers: names.clone() })
    }
}

impl RawSigner {
    fn checked(self) -> Result<SignerSpec, String> {
        let absolute = |path: PathBuf| match path.is_absolute() {
            true => Ok(path),
            false => Err(format!("{} is not an absolute path", path.display())),
        };
        let annotations = self.annotations.unwrap_or_default();
        match self.kind {
            Kind::Keyless => Err("keyless signatures are not supported: they need certificates of Fulcio and the log \
                Rekor to be asked for each image; sign with a key (type cosign) or a certificate (type notation)"
                .to_owned()),
            Kind::Cosign => {
                if self.trust_store.is_some() || self.identities.is_some() || self.level.is_some() {
                    return Err("trust-store, identities and level are for signers of type notation".to_owned());
                }
                let key = match (self.key, self.key_data) {
                    (Some(path), None) => Key::File(absolute(path)?),
                    (None, Some(data)) => Key::Data(data),
                    _ => return Err("a signer of type cosign needs key or key-data, one of the two".to_owned()),
                };
                let remap = self.remap.unwrap_or_default();
                for (ours, theirs) in &remap {
                    check_scope(ours).and_then(|()| check_scope(theirs)).map_err(|why| format!("remap: {why}"))?;
                }
                Ok(SignerSpec::Cosign { key, reference: self.reference.unwrap_or_default(), remap, annotations })
            }
            Kind::Notation => {
                if self.key.is_some() || self.key_data.is_some() || self.reference.is_some() || self.remap.is_some() {
                    return Err("key, key-data, reference and remap are for signers of type cosign".to_owned());
                }
                let trust_store = self.trust_store.ok_or("a signer of type notation needs a trust-store")?;
                let texts = self.identities.ok_or("a signer of type notation needs identities, or [\"*\"]")?;
                let identities = crate::identity::Identity::list(&texts)?;
                let level = self.level.unwrap_or_default();
                if level == Level::Skip {
                    return Err("level skip verifies nothing: give the rule the action accept in its place".to_owned());
                }
                Ok(SignerSpec::Notation { trust_store: absolute(trust_store)?, identities, level, annotations })
            }
        }
    }
}

/// A scope is written in full: a registry, or a repository or a part of its path below one.
fn check_scope(scope: &str) -> Result<(), String> {
    let domain = scope.split('/').next().unwrap_or_default();
    if !domain.contains(['.', ':']) && domain != "localhost" {
        return Err(format!(
            "it does not begin with a registry's name: write docker.io/library/{scope}, or docker.io/{scope}"
        ));
    }
    // A registry alone is none, so it is tried with a repository below.
    let probe = if scope.contains('/') { scope.to_owned() } else { format!("{scope}/x") };
    let parsed = Reference::parse(&probe).map_err(|e| e.to_string())?;
    if !parsed.is_name_only() {
        return Err("it has a tag or a digest: scopes are repositories and what they are in".to_owned());
    }
    // What is normalised would never be the beginning of a normalised name: index.docker.io.
    let two = parsed.name() == format!("{domain}/library/{}", probe.split_once('/').map_or("", |(_, rest)| rest));
    if parsed.name() != probe && !(two && domain == parsed.domain()) {
        return Err(format!("write {} in its full form, {}", scope, parsed.name()));
    }
    Ok(())
}

impl SignerSpec {
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Cosign { key: Key::File(path), .. } | Self::Notation { trust_store: path, .. } => Some(path),
            Self::Cosign { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rest: &str) -> Result<Policy, String> {
        let text = format!(
            r#"{{"version":1,"signers":{{"a":{{"type":"cosign","key":"/k/a.pub"}},"b":{{"type":"cosign","key":"/k/b.pub"}}}},{rest}}}"#
        );
        Policy::parse(text.as_bytes(), "/etc/dhow/trust.json").map_err(|e| e.to_string())
    }

    #[test]
    fn the_longest_scope_wins_at_boundaries() {
        let policy = policy(
            r#""mode":"dry-run","default":{"action":"reject"},"rules":{
            "docker.io":{"action":"accept"},
            "docker.io/library":{"action":"require","any-of":["a"],"mode":"enforce"},
            "docker.io/library/busybox":{"action":"require","all-of":["a","b"],"local":"reject"},
            "localhost:5000/team":{"action":"accept","on-run":"recheck","signed":"platform"}}"#,
        )
        .unwrap();
        let rule = |name: &str| policy.rule(&name.parse().unwrap()).clone();
        for (name, scope) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1", "docker.io/library/busybox"),
            ("busybox2", "docker.io/library"),
            ("user/app", "docker.io"),
            ("quay.example/x", "default"),
            ("localhost:5000/team/app", "localhost:5000/team"),
            ("localhost:5000/teams/app", "default"),
            ("localhost:5000/a/team", "default"),
        ] {
            assert_eq!(rule(name).scope, scope, "{name}");
        }
        assert_eq!((rule("busybox").mode, rule("busybox").local), (Mode::DryRun, false));
        assert_eq!((rule("alpine").mode, rule("alpine").local), (Mode::Enforce, true));
        assert_eq!(rule("localhost:5000/team").on_run, OnRun::Recheck);
        assert_eq!(rule("localhost:5000/team").signed, Signed::Platform);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_place() {
        let accept = r#""default":{"action":"accept"}"#;
        for (rest, said) in [
            (r#""default":{"action":"maybe"}"#.to_owned(), "at default.action: unknown variant `maybe`"),
            (r#""default":{"action":"accept","modes":1}"#.into(), "unknown field `modes`"),
            (r#""default":{"action":"accept"},"default":{"action":"reject"}"#.into(), "is there twice"),
            (
                format!(r#"{accept},"rules":{{"docker.io":{{"action":"accept"}},"docker.io":{{"action":"reject"}}}}"#),
                "is there twice",
            ),
            (r#""rules":{}"#.into(), "missing field `default`"),
            (r#""default":{"action":"require"}"#.into(), "at default: require needs any-of or all-of"),
            (r#""default":{"action":"require","any-of":["a"],"all-of":["a"]}"#.into(), "one of the two"),
            (r#""default":{"action":"require","any-of":[]}"#.into(), "never be met"),
            (r#""default":{"action":"require","any-of":["c"]}"#.into(), "no signer \"c\""),
            (r#""default":{"action":"require","all-of":["a","a"]}"#.into(), "twice"),
            (r#""default":{"action":"accept","any-of":["a"]}"#.into(), "for rules whose action is require"),
            (format!(r#"{accept},"rules":{{"busybox":{{"action":"accept"}}}}"#), "write docker.io/library/busybox"),
            (format!(r#"{accept},"rules":{{"docker.io/x:1":{{"action":"accept"}}}}"#), "has a tag"),
            (
                format!(r#"{accept},"rules":{{"index.docker.io/a/b":{{"action":"accept"}}}}"#),
                "full form, docker.io/a/b",
            ),
            (format!(r#"{accept},"rules":{{"quay.example/A":{{"action":"accept"}}}}"#), "lowercase"),
            (format!(r#"{accept},"rules":{{"quay.example/":{{"action":"accept"}}}}"#), "invalid reference"),
            (format!(r#"{accept},"rules":{{"a.b/c":{{"action":"reject","mode":"off"}}}}"#), "rules"),
        ] {
            let error = policy(&rest).expect_err(&rest);
            assert!(error.starts_with("the trust policy /etc/dhow/trust.json cannot be used: "), "{error}");
            assert!(error.contains(said), "{rest}: {error}");
        }
        assert!(policy(r#""default":{"action":"accept"},"rules":{"docker.io/x":{"action":"reject"}}"#).is_ok());
    }

    #[test]
    fn signers_say_one_thing() {
        let signer = |text: &str| {
            let text = format!(r#"{{"version":1,"default":{{"action":"accept"}},"signers":{{"s":{text}}}}}"#);
            Policy::parse(text.as_bytes(), "p").map_err(|e| e.why)
        };
        assert!(signer(r#"{"type":"cosign","key-data":"x","reference":"any","annotations":{"a":"b"}}"#).is_ok());
        assert!(signer(r#"{"type":"notation","trust-store":"/t","identities":["*"],"level":"audit"}"#).is_ok());
        for (text, said) in [
            (r#"{"type":"keyless"}"#, "at signers.s: keyless signatures are not supported"),
            (r#"{"type":"gpg"}"#, "unknown variant `gpg`"),
            (
                r#"{"type":"notation","trust-store":"/t","identities":["*"],"level":"skip"}"#,
                "action accept in its place",
            ),
            (r#"{"type":"cosign"}"#, "needs key or key-data"),
            (r#"{"type":"cosign","key":"/a","key-data":"b"}"#, "one of the two"),
            (r#"{"type":"cosign","key":"a"}"#, "not an absolute path"),
            (r#"{"type":"cosign","key":"/a","level":"strict"}"#, "of type notation"),
            (r#"{"type":"cosign","key":"/a","remap":{"x":"docker.io"}}"#, "remap: it does not begin"),
            (r#"{"type":"notation","identities":["*"]}"#, "needs a trust-store"),
            (r#"{"type":"notation","trust-store":"/t"}"#, "needs identities"),
            (r#"{"type":"notation","trust-store":"/t","identities":["*"],"key":"/a"}"#, "of type cosign"),
            (r#"{"type":"cosign","key":"/a","annotations":{"a":1}}"#, "invalid type"),
        ] {
            let error = signer(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
