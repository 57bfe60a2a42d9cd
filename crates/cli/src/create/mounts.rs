//! `-v`, `--mount` and `--tmpfs`.

use serde_json::{Map, Value, json};

use super::{csv, pair};
use crate::{Error, Result};

/// What `-v` values become: binds as text, and targets of anonymous volumes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Volumes {
    pub(crate) binds: Vec<String>,
    pub(crate) anonymous: Vec<String>,
}

/// Sorts `-v` values; a source that begins with a dot is made absolute with `cwd`.
pub(crate) fn volumes<'a>(flags: impl Iterator<Item = &'a str>, cwd: &std::path::Path) -> Result<Volumes> {
    let mut out = Volumes::default();
    for spec in flags {
        if spec.is_empty() {
            return Err(Error::invalid("invalid spec: : empty volume specification"));
        }
        if spec.split(':').any(str::is_empty) {
            return Err(Error::invalid(format!("invalid spec: {spec}: empty section between colons")));
        }
        match spec.split_once(':') {
            None => out.anonymous.push(spec.to_owned()),
            Some((source, rest)) if source.starts_with('.') => {
                let joined = cwd.join(source);
                out.binds.push(format!("{}:{rest}", clean(&joined).display()));
            }
            Some((source, rest)) if source.starts_with("~/") => {
                let home = std::env::home_dir()
                    .ok_or_else(|| Error::invalid(format!("invalid spec: {spec}: no home directory is known")))?;
                out.binds.push(format!("{}:{rest}", home.join(&source[2..]).display()));
            }
            Some(_) => out.binds.push(spec.to_owned()),
        }
    }
    Ok(out)
}

/// The path without `.` and `..` components, by text alone.
fn clean(path: &std::path::Path) -> std::path::PathBuf {
    use std::path::Component;
    let mut out = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// One `--mount` value as an element of `HostConfig.Mounts`.
pub(crate) fn mount(text: &str) -> Result<Value> {
    let wrong = |why: String| Error::invalid(format!("invalid argument {text:?} for \"--mount\" flag: {why}"));
    let mut out = Map::new();
    let (mut bind, mut volume, mut tmpfs, mut image) = (Map::new(), Map::new(), Map::new(), Map::new());
    let mut kind = "volume".to_owned();
    let mut target = String::new();
    let mut owner: Vec<String> = Vec::new();
    for field in csv(text)? {
        let (key, has_value) = (field.split('=').next().unwrap_or_default().to_lowercase(), field.contains('='));
        let value = pair(&field).1;
        if !has_value
            && !matches!(
                key.as_str(),
                "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive" | "bind-create-src" | "idmap"
            )
        {
            return Err(wrong(format!("invalid field '{field}' must be a key=value pair")));
        }
        let flag = || match value.as_str() {
            "" if !has_value => Ok(true),
            "1" | "t" | "true" | "TRUE" | "True" | "T" => Ok(true),
            "0" | "f" | "false" | "FALSE" | "False" | "F" => Ok(false),
            _ => Err(wrong(format!("invalid value for {key}: {value}"))),
        };
        match key.as_str() {
            "type" => kind = value.to_lowercase(),
            "source" | "src" => {
                out.insert("Source".into(), json!(value));
            }
            "target" | "dst" | "destination" => target = value,
            "readonly" | "ro" => {
                out.insert("ReadOnly".into(), json!(flag()?));
            }
            "consistency" => {
                out.insert("Consistency".into(), json!(value.to_lowercase()));
            }
            "bind-propagation" => {
                bind.insert("Propagation".into(), json!(value.to_lowercase()));
            }
            "bind-nonrecursive" => {
                bind.insert("NonRecursive".into(), json!(flag()?));
            }
            "bind-create-src" => {
                bind.insert("CreateMountpoint".into(), json!(flag()?));
            }
            "bind-recursive" => {
                match value.as_str() {
                    "enabled" => {}
                    "disabled" => drop(bind.insert("NonRecursive".into(), json!(true))),
                    "writable" => drop(bind.insert("ReadOnlyNonRecursive".into(), json!(true))),
                    "readonly" => drop(bind.insert("ReadOnlyForceRecursive".into(), json!(true))),
                    _ => {
                        return Err(wrong(format!(
                            "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                        )));
                    }
                };
            }
            "volume-subpath" => {
                volume.insert("Subpath".into(), json!(value));
            }
            "volume-nocopy" => {
                volume.insert("NoCopy".into(), json!(flag()?));
            }
            "volume-label" => insert_pair(volume.entry("Labels").or_insert_with(|| json!({})), &value),
            "volume-driver" => {
                driver(&mut volume).insert("Name".into(), json!(value));
            }
            "volume-opt" => insert_pair(driver(&mut volume).entry("Options").or_insert_with(|| json!({})), &value),
            "tmpfs-size" => {
                let size =
                    types::ram_in_bytes(&value).map_err(|_| wrong(format!("invalid value for {key}: {value}")))?;
                tmpfs.insert("SizeBytes".into(), json!(size));
            }
            "tmpfs-mode" => {
                let mode =
                    u32::from_str_radix(&value, 8).map_err(|_| wrong(format!("invalid value for {key}: {value}")))?;
                tmpfs.insert("Mode".into(), json!(mode));
            }
            "image-subpath" => {
                image.insert("Subpath".into(), json!(value));
            }
            "uid" | "gid" | "idmap" => owner.push(if has_value { format!("{key}={value}") } else { key }),
            _ => return Err(wrong(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    if kind.is_empty() {
        return Err(wrong("type is required".into()));
    }
    if target.is_empty() {
        return Err(wrong("target is required".into()));
    }
    for (name, wanted, options) in [
        ("volume-*", "volume", &volume),
        ("bind-*", "bind", &bind),
        ("tmpfs-*", "tmpfs", &tmpfs),
        ("image-*", "image", &image),
    ] {
        if !options.is_empty() && kind != wanted {
            return Err(wrong(format!("cannot mix '{name}' options with mount type '{kind}'")));
        }
    }
    // A relative source of a bind is one of ours, as with `-v`.
    if kind == "bind"
        && let Some(source) = out.get("Source").and_then(Value::as_str)
        && source.starts_with('.')
    {
        let absolute = clean(&std::env::current_dir().map_err(|error| wrong(error.to_string()))?.join(source));
        out.insert("Source".into(), json!(absolute.display().to_string()));
    }
    if bind.get("ReadOnlyForceRecursive").is_some() {
        if out.get("ReadOnly") != Some(&json!(true)) {
            return Err(wrong(
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".into(),
            ));
        }
        if bind.get("Propagation") != Some(&json!("rprivate")) {
            return Err(wrong(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                    .into(),
            ));
        }
    }
    out.insert("Type".into(), json!(kind));
    out.insert("Target".into(), json!(target));
    for (key, options) in
        [("BindOptions", bind), ("VolumeOptions", volume), ("TmpfsOptions", tmpfs), ("ImageOptions", image)]
    {
        if !options.is_empty() {
            out.insert(key.into(), Value::Object(options));
        }
    }
    if !owner.is_empty() {
        if !matches!(kind.as_str(), "bind" | "volume") {
            return Err(wrong("uid, gid and idmap are for binds and volumes alone".into()));
        }
        out.insert(OWNER.into(), json!(owner.join(",")));
    }
    Ok(Value::Object(out))
}

/// Where [`mount`] leaves what is no field of Docker's.
const OWNER: &str = "dhow.owner";

/// Takes `uid=`, `gid=` and `idmap` out of a mount: they travel as an annotation, as the body of a request has no
/// field for them.
pub(crate) fn take_owner(mount: &mut Value) -> Option<(String, String)> {
    let owner = mount.as_object_mut()?.remove(OWNER)?;
    Some((format!("dhow.mount:{}", mount["Target"].as_str()?), owner.as_str()?.to_owned()))
}

fn driver(volume: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let entry = volume.entry("DriverConfig").or_insert_with(|| json!({}));
    entry.as_object_mut().expect("only objects are put there")
}

fn insert_pair(into: &mut Value, text: &str) {
    let (key, value) = pair(text);
    into[key] = json!(value);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn volume_specs() {
        let got =
            volumes(["/a:/b:ro", "data:/d", "/anon", "./x:/y", "../z:/w"].into_iter(), Path::new("/home/u")).unwrap();
        assert_eq!(got.binds, ["/a:/b:ro", "data:/d", "/home/u/x:/y", "/home/z:/w"]);
        assert_eq!(got.anonymous, ["/anon"]);
        assert!(
            volumes([":/x"].into_iter(), Path::new("/"))
                .unwrap_err()
                .to_string()
                .contains("empty section between colons")
        );
    }

    #[test]
    fn mount_specs() {
        assert_eq!(
            mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rshared").unwrap(),
            json!({"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rshared"}})
        );
        assert_eq!(
            mount("source=v,target=/b,volume-nocopy,volume-driver=d,volume-opt=o=x,\"volume-label=a=b,c\"").unwrap(),
            json!({"Type":"volume","Source":"v","Target":"/b","VolumeOptions":
                {"NoCopy":true,"Labels":{"a":"b,c"},"DriverConfig":{"Name":"d","Options":{"o":"x"}}}})
        );
        assert_eq!(
            mount("type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1777").unwrap(),
            json!({"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":67108864,"Mode":1023}})
        );
        let mut mapped = mount("type=bind,src=/a,dst=/b,uid=1000,gid=7").unwrap();
        assert_eq!(take_owner(&mut mapped), Some(("dhow.mount:/b".to_owned(), "uid=1000,gid=7".to_owned())));
        assert_eq!(mapped, json!({"Type":"bind","Source":"/a","Target":"/b"}));
        assert_eq!(take_owner(&mut mapped), None);
        for (text, why) in [
            ("type=tmpfs,dst=/x,uid=3", "binds and volumes alone"),
            ("type=bind", "target is required"),
            ("type=bind,foo=1,dst=/x", "unexpected key 'foo'"),
            ("type=tmpfs,dst=/x,volume-nocopy", "cannot mix 'volume-*' options"),
            ("dst", "must be a key=value pair"),
            ("type=bind,dst=/x,readonly=maybe", "invalid value for readonly"),
        ] {
            assert!(mount(text).unwrap_err().to_string().contains(why), "{text}");
        }
    }
}
