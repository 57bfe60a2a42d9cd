//! `RUN --mount=type=…,key=value,…`: read as fields with the instruction, made a mount when its variables are expanded.

use crate::error::{Error, Problem};
use crate::suggest::suggestion;
use crate::word::Word;

/// A mount as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// `key=value`, or keys alone.
    pub fields: Vec<String>,
    /// The stage or image that `from` names, which has no variables.
    pub from: Option<String>,
    /// The whole flag.
    pub word: Word,
}

/// A mount of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where, as written; relative to the working directory. Empty for a secret or socket at its usual place.
    pub target: String,
    /// Not writable. A bind mount that is writable loses what was written.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A directory or file of the build context, a stage or an image.
    Bind {
        /// The stage or image; none is the build context.
        from: Option<String>,
        /// Path in it; empty is all of it.
        source: String,
    },
    /// A directory that is kept between builds.
    Cache {
        /// Its name; empty is the target's path.
        id: String,
        /// Who else may use it at the same time.
        sharing: Sharing,
        /// What it begins with.
        from: Option<String>,
        /// Path in that.
        source: String,
        /// Permissions of a new one.
        mode: Option<u32>,
        /// Its owner.
        uid: Option<u32>,
        /// Its group.
        gid: Option<u32>,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Most bytes in it.
        size: Option<u64>,
    },
    /// A secret as a file or a variable.
    Secret {
        /// Its name.
        id: String,
        /// The variable that has it.
        env: Option<String>,
        /// Whether the command fails without it.
        required: bool,
        /// Permissions of the file.
        mode: Option<u32>,
        /// Its owner.
        uid: Option<u32>,
        /// Its group.
        gid: Option<u32>,
    },
    /// The socket of an SSH agent.
    Ssh {
        /// Its name.
        id: String,
        /// Whether the command fails without it.
        required: bool,
        /// Permissions of the socket.
        mode: Option<u32>,
        /// Its owner.
        uid: Option<u32>,
        /// Its group.
        gid: Option<u32>,
    },
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Whoever comes second gets another one.
    Private,
    /// Whoever comes second waits.
    Locked,
}

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
/// Keys that have a value, in the order in which a similar one is looked for.
const KEYS: [&str; 14] = [
    "type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid", "src",
    "env",
];

pub(super) fn parse(word: Word) -> Result<MountSpec, Error> {
    let fields = fields(&word)?;
    let mut from = None;
    for field in &fields {
        if let Some((key, value)) = field.split_once('=')
            && key.eq_ignore_ascii_case("from")
        {
            if value.contains('$') {
                return Err(Error::parse(Problem::MountFromVariable).at(word.span));
            }
            from = Some(value.to_owned()).filter(|from| !from.is_empty());
        }
    }
    Ok(MountSpec { fields, from, word })
}

/// The fields of a line of comma-separated values (RFC 4180, with Go's strictness about quotes).
pub(super) fn fields(word: &Word) -> Result<Vec<String>, Error> {
    let fail = |rest: &str, why| {
        let column = word.text.len() - rest.len() + 1;
        let why = format!("parse error on line 1, column {column}: {why}");
        Err(Error::parse(Problem::MountCsv(why)).at(word.span))
    };
    if word.text.is_empty() {
        return Err(Error::parse(Problem::MountCsv("EOF".to_owned())).at(word.span));
    }
    let mut fields = Vec::new();
    let mut rest = word.text.as_str();
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let Some(end) = rest.find('"') else { return fail("", "extraneous or missing \" in quoted-field") };
                field.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        rest = more;
                    }
                    None => break,
                }
            }
            if !rest.is_empty() && !rest.starts_with(',') {
                return fail(rest, "extraneous or missing \" in quoted-field");
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if let Some(quote) = rest[..end].find('"') {
                return fail(&rest[quote..], "bare \" in non-quoted-field");
            }
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[derive(Default)]
struct Values {
    source: String,
    target: String,
    id: String,
    env: Option<String>,
    read_only: Option<bool>,
    required: bool,
    size: Option<u64>,
    sharing: Option<Sharing>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl MountSpec {
    /// Makes the mount; `expand` is asked for every value but `from`'s. What else comes back is a mistake that the builder
    /// only finds when it has read all mounts of the command.
    ///
    /// # Errors
    /// Keys or values that no mount, or none of its type, has.
    pub(crate) fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, Error>,
    ) -> Result<(Mount, Option<Error>), Error> {
        let (mount, late) = self.read(expand).map_err(|error| error.at(self.word.span))?;
        Ok((mount, late.map(|problem| Error::of(problem).at(self.word.span))))
    }

    fn read(&self, expand: &mut dyn FnMut(&str) -> Result<String, Error>) -> Result<(Mount, Option<Problem>), Error> {
        let mut fields = Vec::with_capacity(self.fields.len());
        let mut kind = "bind";
        for field in &self.fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
                None => (field.to_ascii_lowercase(), None),
            };
            let value = match value {
                Some(value) if key != "from" => Some(expand(value)?),
                value => value.map(str::to_owned),
            };
            if let ("type", Some(value)) = (key.as_str(), &value) {
                let lower = value.to_ascii_lowercase();
                kind = TYPES.into_iter().find(|known| *known == lower).ok_or_else(|| {
                    let suggestion = suggestion(&lower, TYPES);
                    Error::of(Problem::MountType { word: value.clone(), suggestion })
                })?;
            }
            fields.push((key, value, field));
        }
        let mut values = Values::default();
        for (key, value, field) in fields {
            values.set(kind, &key, value, field)?;
        }
        values.mount(kind, self.from.clone())
    }
}

impl Values {
    fn set(&mut self, kind: &'static str, key: &str, value: Option<String>, field: &str) -> Result<(), Error> {
        let flag = |name| match &value {
            None => Ok(true),
            Some(text) => boolean(text).ok_or_else(|| Error::of(Problem::MountValueFor(name, text.clone()))),
        };
        match key {
            "readonly" => self.read_only = Some(flag("readonly")?),
            "ro" => self.read_only = Some(flag("ro")?),
            "readwrite" => self.read_only = Some(!flag("readwrite")?),
            "rw" => self.read_only = Some(!flag("rw")?),
            "required" => {
                only(kind, "required", &["secret", "ssh"])?;
                self.required = flag("required")?;
            }
            _ => {
                let value = value.ok_or_else(|| Error::of(Problem::MountField(field.to_owned())))?;
                self.set_value(kind, key, value, field)?;
            }
        }
        Ok(())
    }

    fn set_value(&mut self, kind: &'static str, key: &str, value: String, field: &str) -> Result<(), Error> {
        let owner = |name, text: String| {
            let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
            number.map(Some).ok_or(Error::of(Problem::MountValue(name, text)))
        };
        match key {
            "type" | "from" => {}
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "id" => self.id = value,
            "env" => self.env = Some(value).filter(|name| !name.is_empty()),
            "size" => {
                only(kind, "size", &["tmpfs"])?;
                let size = types::ram_in_bytes(&value);
                self.size = Some(size.map_err(|_| Error::of(Problem::MountValueFor("size", value)))?);
            }
            "sharing" => {
                self.sharing = Some(match value.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(Error::of(Problem::Sharing(value))),
                });
            }
            "mode" => {
                let octal = !value.is_empty() && value.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
                let mode = octal.then(|| u32::from_str_radix(&value, 8).ok()).flatten();
                self.mode = Some(mode.ok_or(Error::of(Problem::MountValue("mode", value)))?);
            }
            "uid" => self.uid = owner("uid", value)?,
            "gid" => self.gid = owner("gid", value)?,
            _ => {
                let suggestion = suggestion(key, KEYS);
                let (key, field) = (key.to_owned(), field.to_owned());
                return Err(Error::of(Problem::MountKey { key, field, suggestion }));
            }
        }
        Ok(())
    }

    fn mount(self, kind: &'static str, from: Option<String>) -> Result<(Mount, Option<Problem>), Error> {
        if self.sharing.is_some() && kind != "cache" {
            return Err(Error::of(Problem::SharingOfType(kind)));
        }
        let owned = matches!(kind, "cache" | "secret" | "ssh");
        for (given, key) in [(self.mode.is_some(), "mode"), (self.uid.is_some(), "uid"), (self.gid.is_some(), "gid")] {
            if given && !owned {
                return Err(Error::of(Problem::OwnerOfType(key, kind)));
            }
        }
        let Values { source, target, id, env, read_only, required, size, sharing, mode, uid, gid } = self;
        let placed = matches!(kind, "bind" | "cache" | "tmpfs");
        let mut late = (placed && is_root(&target)).then(|| Problem::MountTarget("/".to_owned()));
        let (kind, read_only) = match kind {
            "cache" => {
                let sharing = sharing.unwrap_or_default();
                (MountKind::Cache { id, sharing, from, source, mode, uid, gid }, read_only.unwrap_or(false))
            }
            "tmpfs" => (MountKind::Tmpfs { size }, false),
            "secret" => {
                if source.is_empty() && id.is_empty() && target.is_empty() {
                    return Err(Error::of(Problem::SecretName));
                }
                let name = [&source, &id, &target.rsplit('/').next().unwrap_or_default().to_owned()];
                let name = name.into_iter().find(|name| !name.is_empty());
                let id = name.cloned().unwrap_or_default();
                if id.is_empty() {
                    late = Some(Problem::SecretName);
                }
                (MountKind::Secret { id, env, required, mode, uid, gid }, true)
            }
            "ssh" => {
                if !source.is_empty() {
                    late = Some(Problem::SourceOfType("ssh"));
                }
                let id = if id.is_empty() { "default".to_owned() } else { id };
                (MountKind::Ssh { id, required, mode, uid, gid }, true)
            }
            _ => (MountKind::Bind { from, source }, read_only.unwrap_or(true)),
        };
        Ok((Mount { kind, target, read_only }, late))
    }
}

fn only(kind: &'static str, key: &'static str, kinds: &[&str]) -> Result<(), Error> {
    if kinds.contains(&kind) { Ok(()) } else { Err(Error::of(Problem::MountKeyOfType { key, kind })) }
}

/// Whether a path leads to the root directory by its letters. A relative one may do so in the end, which the build sees.
fn is_root(path: &str) -> bool {
    let mut depth = 0usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instruction;
    use crate::testing::{error, one};

    fn mount(text: &str) -> Result<Mount, String> {
        let Instruction::Run(run) = one(&format!("RUN --mount={text} x")) else { panic!() };
        let expand = &mut |value: &str| Ok(value.replace("$x", "X"));
        let (mount, late) = run.mounts[0].resolve(expand).map_err(|error| error.to_string())?;
        late.map_or(Ok(mount), |error| Err(error.to_string()))
    }

    #[test]
    fn every_type_with_its_keys() {
        let bind = Mount {
            kind: MountKind::Bind { from: Some("a".into()), source: "sX".into() },
            target: "/t".into(),
            read_only: false,
        };
        assert_eq!(mount("type=bind,FROM=a,src=s$x,dst=/t,rw").unwrap(), bind);
        assert!(mount("target=t").unwrap().read_only);
        let cache = mount("type=Cache,id=i,target=/t,sharing=LOCKED,mode=0750,uid=1,gid=2,ro,from=b,source=s").unwrap();
        let MountKind::Cache { id, sharing, mode, uid, gid, from, source } = cache.kind else { panic!() };
        assert_eq!((id, sharing, mode, uid, gid), ("i".into(), Sharing::Locked, Some(0o750), Some(1), Some(2)));
        assert_eq!((from, source, cache.read_only), (Some("b".into()), "s".into(), true));
        assert_eq!(mount("type=tmpfs,target=/t,size=1.5k").unwrap().kind, MountKind::Tmpfs { size: Some(1536) });
        let MountKind::Secret { id, env, required, .. } = mount("type=secret,target=/a/b,env=E,required").unwrap().kind
        else {
            panic!()
        };
        assert_eq!((id, env, required), ("b".into(), Some("E".into()), true));
        let MountKind::Ssh { id, required, .. } = mount("type=ssh,required=0").unwrap().kind else { panic!() };
        assert_eq!((id, required), ("default".into(), false));
        assert_eq!(mount("'type=bind,\"target=/x,y\"'").unwrap().target, "/x,y");
    }

    #[test]
    fn what_a_type_has_not() {
        for (text, message) in [
            ("type=cach,target=/x", "unsupported mount type \"cach\" (did you mean cache?)"),
            ("type=foo", "unsupported mount type \"foo\""),
            ("type=cache", "invalid mount target \"/\""),
            ("type=bind,target=/a/..", "invalid mount target \"/\""),
            ("target=/x,foo", "invalid field 'foo' must be a key=value pair"),
            ("target=/x,", "invalid field '' must be a key=value pair"),
            ("target=/x,foo=bar", "unexpected key 'foo' in 'foo=bar' (did you mean from?)"),
            ("target=/x,ro=maybe", "invalid value for ro: maybe"),
            ("target=/x,size=1", "unexpected key 'size' for mount type 'bind'"),
            ("target=/x,required", "unexpected key 'required' for mount type 'bind'"),
            ("type=tmpfs,target=/x,size=10q", "invalid value for size: 10q"),
            ("type=cache,target=/x,sharing=foo", "unsupported sharing value \"foo\""),
            ("target=/x,sharing=shared", "invalid cache sharing set for bind mount"),
            ("target=/x,mode=0755", "mode not allowed for \"bind\" type mounts"),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=secret,id=a,mode=999", "invalid value 999 for mode"),
            ("type=secret,id=a,uid=-1", "invalid value -1 for uid"),
            ("type=secret,id=a,gid=4294967296", "invalid value 4294967296 for gid"),
            ("type=ssh,source=b", "ssh does not support source"),
        ] {
            assert_eq!(mount(text).unwrap_err(), message, "{text}");
        }
        assert!(error("RUN --mount= x").ends_with("failed to parse csv mounts: EOF"));
        assert!(error("RUN --mount=from=$x,target=/ x").contains("'from' doesn't support variable expansion"));
        assert!(error("RUN --mount='a\"b' x").ends_with("bare \" in non-quoted-field"));
    }
}
