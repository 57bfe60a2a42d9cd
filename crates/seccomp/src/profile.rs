//! The profile document: Docker's JSON dialect, of which the `linux.seccomp` object of an OCI
//! runtime configuration is a subset. `Deserialize` only, so that the choice of format stays with the
//! caller. Values are checked by [`crate::check`], not here, except what cannot be represented; and reading
//! stops where a document is larger than any profile can be, so that memory stays bounded.

use std::borrow::Cow;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Arch;

/// Largest value an `errnoRet` of [`Action::Errno`] may have (`MAX_ERRNO` of linux/err.h).
pub const MAX_ERRNO: u32 = 4095;
/// Largest value an `errnoRet` of [`Action::Trace`] may have (`SECCOMP_RET_DATA` of linux/seccomp.h).
pub const MAX_TRACE_MESSAGE: u32 = 0xffff;

/// Most rules, names, comparisons and conditions a profile may have in all. Docker's has some 600; whatever
/// has more than this many could not become a program the kernel takes.
pub(crate) const MAX_ENTRIES: usize = 1 << 16;

/// What the names of [`Profile::flags`] begin with.
pub(crate) const FLAG_PREFIX: &str = "SECCOMP_FILTER_FLAG_";

/// `SECCOMP_FILTER_FLAG_TSYNC`.
pub const FLAG_TSYNC: u32 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`.
pub const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// What happens to a call; see seccomp(2), "Filter return values".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Action {
    /// Run the call.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// Fail the call with an errno.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// Kill the thread.
    #[serde(rename = "SCMP_ACT_KILL_THREAD", alias = "SCMP_ACT_KILL")]
    KillThread,
    /// Kill the process.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Send SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// Hand over to a ptrace(2) tracer.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Run the call and log it.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Ask the listener.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// Comparison of one argument, unsigned and over 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Op {
    /// `arg != value`
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// `arg < value`
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    /// `arg <= value`
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    /// `arg == value`
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    /// `arg >= value`
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    /// `arg > value`
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// `arg & value == value_two`
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// One comparison of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Arg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; the mask of [`Op::MaskedEqual`].
    #[serde(default)]
    pub value: u64,
    /// The value expected under the mask.
    #[serde(default, rename = "valueTwo")]
    pub value_two: u64,
    /// How.
    pub op: Op,
}

/// A kernel version as far as profiles look: `X.Y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// `X`
    pub major: u32,
    /// `Y`
    pub minor: u32,
}

impl KernelVersion {
    /// Reads `X.Y`; of a longer release string such as `6.18.44-1` only the first two numbers count.
    pub fn parse(text: &str) -> Option<KernelVersion> {
        let (major, rest) = text.split_once('.')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = |s: &str| -> Option<u32> {
            if s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit()) { None } else { s.parse().ok() }
        };
        Some(KernelVersion { major: digits(major)?, minor: digits(&rest[..end])? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<'de> Deserialize<'de> for KernelVersion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        // Docker takes exactly two numbers here, so "4.8.1" is a mistake to report, not to trim.
        KernelVersion::parse(&text)
            .filter(|v| v.to_string() == text)
            .ok_or_else(|| serde::de::Error::custom(format!("minKernel '{text:.32}' is not of the form X.Y")))
    }
}

/// When a rule holds (`includes`) or does not (`excludes`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Capabilities by name, against the bounding set: all of them for `includes`, any for `excludes`.
    #[serde(deserialize_with = "list")]
    pub caps: Vec<Cow<'static, str>>,
    /// Docker's architecture names (`amd64`, `arm64`, `x86`…), against the native architecture.
    #[serde(deserialize_with = "list")]
    pub arches: Vec<Cow<'static, str>>,
    /// Oldest kernel.
    #[serde(rename = "minKernel")]
    pub min_kernel: Option<KernelVersion>,
}

/// One entry of `syscalls`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rule {
    /// Calls it is about; names unknown on an architecture are skipped there.
    #[serde(default, deserialize_with = "list")]
    pub names: Vec<Cow<'static, str>>,
    /// Older spelling for one name; exclusive with `names`.
    #[serde(default, deserialize_with = "empty_text_is_none")]
    pub name: Option<Cow<'static, str>>,
    /// What happens to them.
    pub action: Action,
    /// Errno of [`Action::Errno`] (EPERM when absent), message of [`Action::Trace`].
    #[serde(default, rename = "errnoRet")]
    pub errno_ret: Option<u32>,
    /// Comparisons that must all hold.
    #[serde(default, deserialize_with = "list")]
    pub args: Vec<Arg>,
    /// When the rule applies.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub includes: Conditions,
    /// When it does not.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub excludes: Conditions,
}

/// Architectures covered together with a native one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ArchMapEntry {
    /// The native architecture.
    pub architecture: Cow<'static, str>,
    /// Those whose programs also run there.
    #[serde(default, rename = "subArchitectures", deserialize_with = "list")]
    pub sub_architectures: Vec<Cow<'static, str>>,
}

/// A seccomp profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// What happens to calls no rule is about. Absent and without rules: no filter at all.
    #[serde(rename = "defaultAction", deserialize_with = "empty_is_none")]
    pub default_action: Option<Action>,
    /// Errno of the default action; EPERM when absent.
    #[serde(rename = "defaultErrnoRet")]
    pub default_errno_ret: Option<u32>,
    /// Architectures beside the native one; exclusive with `arch_map`.
    #[serde(deserialize_with = "list")]
    pub architectures: Vec<Cow<'static, str>>,
    /// The same, by native architecture.
    #[serde(rename = "archMap", deserialize_with = "map_entries")]
    pub arch_map: Vec<ArchMapEntry>,
    /// `SECCOMP_FILTER_FLAG_` names; see [`Profile::filter_flags`] for what their absence means.
    #[serde(deserialize_with = "optional_list")]
    pub flags: Option<Vec<Cow<'static, str>>>,
    /// Socket to which the listener of [`Action::Notify`] is sent; absent when empty.
    #[serde(rename = "listenerPath", deserialize_with = "empty_text_is_none")]
    pub listener_path: Option<String>,
    /// Opaque text sent along with the listener; absent when empty.
    #[serde(rename = "listenerMetadata", deserialize_with = "empty_text_is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(deserialize_with = "rules")]
    pub syscalls: Vec<Rule>,
}

/// What a container has: the facts rules depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Bounding set, bit n = capability n of linux/capability.h.
    pub caps: u64,
    /// The kernel's native architecture.
    pub arch: Arch,
    /// The running kernel.
    pub kernel: KernelVersion,
}

impl Profile {
    /// Whether the profile asks for no filter: neither default action nor rules, as Docker reads it.
    pub fn is_off(&self) -> bool {
        self.default_action.is_none() && self.syscalls.is_empty()
    }

    /// Whether some call goes to a listener, so that [`FLAG_NEW_LISTENER`] is needed.
    pub fn notifies(&self) -> bool {
        self.default_action == Some(Action::Notify) || self.syscalls.iter().any(|r| r.action == Action::Notify)
    }
}

/// What a rule adds to the count that [`MAX_ENTRIES`] limits.
pub(crate) fn entries(rule: &Rule) -> usize {
    let of = |c: &Conditions| c.caps.len() + c.arches.len();
    1 + rule.names.len() + rule.args.len() + of(&rule.includes) + of(&rule.excludes)
}

/// Go writes absent objects as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A list that may be `null`, read no further than its entries' weights add up to [`MAX_ENTRIES`].
struct List<T> {
    weight: fn(&T) -> usize,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        let mut total = 0;
        while let Some(entry) = from.next_element()? {
            total += (self.weight)(&entry);
            if total > MAX_ENTRIES {
                let text = format!("seccomp profile is too large: a list exceeds {MAX_ENTRIES}; merge or drop rules");
                return Err(serde::de::Error::custom(text));
            }
            list.push(entry);
        }
        Ok(Some(list))
    }
}

fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(from.deserialize_option(List { weight: |_| 1 })?.unwrap_or_default())
}

fn optional_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    from.deserialize_option(List { weight: |_| 1 })
}

fn rules<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Rule>, D::Error> {
    Ok(from.deserialize_option(List { weight: entries })?.unwrap_or_default())
}

fn map_entries<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ArchMapEntry>, D::Error> {
    let weight = |entry: &ArchMapEntry| 1 + entry.sub_architectures.len();
    Ok(from.deserialize_option(List { weight })?.unwrap_or_default())
}

/// Go's writers cannot tell an absent text from an empty one.
fn empty_text_is_none<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + AsRef<str>,
{
    Ok(Option::<T>::deserialize(from)?.filter(|text| !text.as_ref().is_empty()))
}

/// Docker treats `"defaultAction": ""` as absent.
fn empty_is_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Action>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Action(Action),
        Text(String),
    }
    match Option::<Either>::deserialize(from)? {
        None => Ok(None),
        Some(Either::Action(a)) => Ok(Some(a)),
        Some(Either::Text(t)) if t.is_empty() => Ok(None),
        Some(Either::Text(t)) => {
            Err(serde::de::Error::custom(format!("defaultAction '{t:.64}' is not a seccomp action")))
        }
    }
}
