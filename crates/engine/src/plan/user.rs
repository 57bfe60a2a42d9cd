//! Who the process runs as: `user[:group]` and additional groups resolved against the container's
//! own `/etc/passwd` and `/etc/group`, which are hostile files read with caps on size and count.
//! Pure; the caller opens the files inside the container's root. Called by start and exec.

use crate::error::{Result, fail};

/// Largest passwd or group file read, bytes.
pub(crate) const MAX_FILE: u64 = 10 << 20;
/// Most supplementary groups taken from the group file (NGROUPS_MAX).
const MAX_GROUPS: usize = 65536;
/// Numeric ids above this are refused, as runc does (signed 32-bit).
const MAX_ID: u32 = i32::MAX as u32;

/// The resolved identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, without duplicates.
    pub groups: Vec<u32>,
    /// Home directory of the passwd entry, `/` without one.
    pub home: String,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|b| *b == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).map(str::trim)
}

fn passwd(text: &[u8]) -> impl Iterator<Item = Passwd<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        fields.next()?;
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(Passwd { name, uid, gid, home })
    })
}

fn groups(text: &[u8]) -> impl Iterator<Item = (&str, u32, &str)> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        fields.next()?;
        let gid = fields.next()?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

/// A numeric id, or none when the text is a name.
fn numeric(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit()) || text == "-" {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(fail!(Invalid, "uids and gids must be in range 0-{MAX_ID}")),
    }
}

/// Resolve `spec` (empty means root) and the additional group names or numbers.
///
/// # Errors
/// Docker's texts: `unable to find user x: no matching entries in passwd file` and the like.
pub(crate) fn resolve(spec: &str, additional: &[String], passwd_file: &[u8], group_file: &[u8]) -> Result<User> {
    let (name, group) = spec.split_once(':').map_or((spec, ""), |(u, g)| (u, g));
    let mut user = User { home: "/".into(), ..User::default() };

    let number = numeric(name)?;
    let entry = match (name, number) {
        ("", _) => passwd(passwd_file).find(|p| p.uid == 0),
        // A name that is a number may still be the name of an entry; names come first.
        (name, number) => passwd(passwd_file)
            .find(|p| p.name == name)
            .or_else(|| number.and_then(|n| passwd(passwd_file).find(|p| p.uid == n))),
    };
    let mut login = None;
    match entry {
        Some(entry) => {
            user.uid = entry.uid;
            user.gid = entry.gid;
            if !entry.home.is_empty() {
                user.home = entry.home.to_owned();
            }
            login = Some(entry.name.to_owned());
        }
        None => match number {
            Some(id) => user.uid = id,
            None if name.is_empty() => {}
            None => return Err(fail!(Internal, "unable to find user {name}: no matching entries in passwd file")),
        },
    }

    if group.is_empty() {
        // Memberships of the group file count only when no group was chosen.
        if let Some(login) = &login {
            for (_, gid, members) in groups(group_file) {
                if members.split(',').any(|m| m.trim() == login) && user.groups.len() < MAX_GROUPS {
                    push_unique(&mut user.groups, gid);
                }
            }
        }
    } else {
        user.gid = find_group(group, group_file)?
            .ok_or_else(|| fail!(Internal, "unable to find group {group}: no matching entries in group file"))?;
    }
    for group in additional {
        let gid = find_group(group, group_file)?
            .ok_or_else(|| fail!(Internal, "unable to find group {group}: no matching entries in group file"))?;
        push_unique(&mut user.groups, gid);
    }
    // The primary group belongs to the list: without it a program could give it up and pass a check
    // that denies its members.
    let gid = user.gid;
    user.groups.retain(|g| *g != gid);
    user.groups.insert(0, gid);
    for id in [user.uid, user.gid] {
        if id > MAX_ID {
            return Err(fail!(Invalid, "uids and gids must be in range 0-{MAX_ID}"));
        }
    }
    Ok(user)
}

fn find_group(group: &str, file: &[u8]) -> Result<Option<u32>> {
    let number = numeric(group)?;
    Ok(groups(file).find(|(name, _, _)| *name == group).map(|(_, gid, _)| gid).or(number))
}

fn push_unique(list: &mut Vec<u32>, id: u32) {
    if !list.contains(&id) {
        list.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:33:33::/var/www:/x\n7:x:70:70::/seven:\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:33:\nadm:x:4:www,root\ndocker:x:999:www\n";

    fn user(spec: &str, extra: &[&str]) -> Result<User> {
        resolve(spec, &extra.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), PASSWD, GROUP)
    }

    #[test]
    fn names_numbers_groups() {
        let root = user("", &[]).unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_str(), root.groups), (0, 0, "/root", vec![0, 4]));
        let www = user("www", &["1234", "adm"]).unwrap();
        assert_eq!((www.uid, www.gid, www.home.as_str(), www.groups), (33, 33, "/var/www", vec![33, 4, 999, 1234]));
        let number = user("33:4", &[]).unwrap();
        assert_eq!((number.uid, number.gid, number.groups), (33, 4, vec![4]));
        // An entry named 7 wins over uid 7.
        assert_eq!(user("7", &[]).unwrap().uid, 70);
        let unknown = user("1000", &[]).unwrap();
        assert_eq!((unknown.uid, unknown.gid, unknown.home.as_str()), (1000, 0, "/"));
        assert_eq!(resolve("", &[], b"", b"").unwrap(), User { home: "/".into(), groups: vec![0], ..User::default() });
    }

    #[test]
    fn refusals_in_dockers_words() {
        let text = |spec: &str| user(spec, &[]).unwrap_err().to_string();
        assert_eq!(text("nosuchuser"), "unable to find user nosuchuser: no matching entries in passwd file");
        assert_eq!(text("www:nosuch"), "unable to find group nosuch: no matching entries in group file");
        for bad in ["-1", "4294967296", "2147483648", "0:-5"] {
            assert_eq!(text(bad), "uids and gids must be in range 0-2147483647", "{bad}");
        }
    }
}
