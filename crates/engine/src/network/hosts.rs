//! Lines of a running container's `/etc/hosts` for addresses that come and go.
//!
//! The file is bound into the container, which may have changed it: it is rewritten in place, and only lines of the
//! container's own name and of its links are touched.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::error::{Error, Result};

/// Longest file that is rewritten; what a container made longer is left alone.
const MAX: u64 = 1 << 20;

/// Adds lines for these addresses.
pub(super) fn add(path: &Path, addresses: &[IpAddr], names: &str) -> Result<()> {
    edit(path, |text| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for address in addresses {
            text.push_str(&format!("{address}\t{names}\n"));
        }
    })
}

/// Removes the lines of these addresses.
pub(super) fn remove(path: &Path, addresses: &[IpAddr], names: &str) -> Result<()> {
    edit(path, |text| {
        let own = |line: &&str| !addresses.iter().any(|address| *line == format!("{address}\t{names}\n"));
        *text = text.split_inclusive('\n').filter(own).collect();
    })
}

/// Lines of a link.
pub(super) struct Link {
    /// What the names of its lines begin with: two words.
    pub mark: String,
    /// The lines as they have to be, each with its end; none where nobody is linked to now.
    pub lines: Vec<String>,
}

/// Puts the lines of links right: in place where there are some, else at the end. `links` is called with the file in hand.
pub(super) fn relink(path: &Path, links: impl FnOnce() -> Vec<Link>) -> Result<()> {
    edit(path, |text| {
        let mut links = links();
        let mut out = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let names = line.split_once('\t').map_or("", |(_, names)| names);
            let is_of = |link: &&mut Link| names.split_whitespace().take(2).eq(link.mark.split_whitespace());
            match links.iter_mut().find(is_of) {
                Some(link) => out.extend(link.lines.drain(..)),
                None => out.push_str(line),
            }
        }
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.extend(links.into_iter().flat_map(|link| link.lines));
        *text = out;
    })
}

/// One change at a time: several containers may end at once that one file tells of.
static EDITING: Mutex<()> = Mutex::new(());

/// By one descriptor, of which no more is read than may be there: the container owns the file and may change it at any
/// moment. It cannot hold this up either, by a lease for instance.
fn edit(path: &Path, change: impl FnOnce(&mut String)) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::unix::fs::OpenOptionsExt;
    let _editing = EDITING.lock().unwrap_or_else(PoisonError::into_inner);
    let io = |e: std::io::Error| Error::io(format!("cannot change {}", path.display()), e);
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    (&file).take(MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX {
        return Ok(());
    }
    let Ok(mut text) = String::from_utf8(bytes) else { return Ok(()) };
    let before = text.clone();
    change(&mut text);
    if text == before {
        return Ok(());
    }
    file.set_len(0).map_err(io)?;
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_lines_come_and_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        std::fs::write(&path, "127.0.0.1\tlocalhost\n10.0.0.2\tweb other").unwrap();
        let address: IpAddr = "10.0.0.2".parse().unwrap();
        add(&path, &[address], "web").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "127.0.0.1\tlocalhost\n10.0.0.2\tweb other\n10.0.0.2\tweb\n");
        remove(&path, &[address], "web").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "127.0.0.1\tlocalhost\n10.0.0.2\tweb other\n");
    }

    #[test]
    fn lines_of_links_are_replaced_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        std::fs::write(&path, "10.0.0.9\tdb mine\n10.0.0.2\tdb abc store\n10.0.0.3\town\n# end").unwrap();
        let with = |lines: &[&str]| {
            let link = |mark: &str| Link { mark: mark.into(), lines: lines.iter().map(|l| (*l).to_owned()).collect() };
            relink(&path, || vec![link("db abc")]).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        let text = with(&["10.0.0.4\tdb abc store\n"]);
        assert_eq!(text, "10.0.0.9\tdb mine\n10.0.0.4\tdb abc store\n10.0.0.3\town\n# end\n");
        assert_eq!(with(&[]), "10.0.0.9\tdb mine\n10.0.0.3\town\n# end\n");
        let text = with(&["10.0.0.5\tdb abc store\n"]);
        assert_eq!(text, "10.0.0.9\tdb mine\n10.0.0.3\town\n# end\n10.0.0.5\tdb abc store\n");
    }
}
