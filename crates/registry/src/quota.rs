//! Quotas as they are written on the command line: `100g,team=10g`, a total and prefixes of repositories' names.

use crate::config::Quota;
use crate::name::RepositoryName;

impl Quota {
    /// Parses a list.
    ///
    /// # Errors
    /// What is wrong with which entry.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut all: Vec<Self> = Vec::new();
        for entry in text.split(',') {
            let (prefix, size) = match entry.rsplit_once('=') {
                Some((prefix, size)) => (Some(prefix.trim_end_matches('/')), size),
                None => (None, entry),
            };
            if prefix.is_some_and(|prefix| RepositoryName::parse(prefix).is_err()) {
                return Err(format!("{entry:?}: before '=' is the beginning of repositories' names"));
            }
            let bytes = parse_size(size).ok_or_else(|| {
                format!("{entry:?}: a size is a number of bytes, with k, m, g or t for powers of 1024")
            })?;
            let quota = Self { prefix: prefix.map(str::to_owned), bytes };
            if all.iter().any(|other| other.prefix == quota.prefix) {
                return Err(format!("{entry:?}: there are two quotas for this"));
            }
            all.push(quota);
        }
        Ok(all)
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let text = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let shift = match text.bytes().last()? {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        _ => 0,
    };
    let digits = if shift > 0 { &text[..text.len() - 1] } else { text };
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let parsed = Quota::parse_list("100g,team=10GiB,team/ci/=5k,x=7").unwrap();
        let shown: Vec<_> = parsed.iter().map(|quota| (quota.prefix.as_deref(), quota.bytes)).collect();
        assert_eq!(shown, [(None, 100 << 30), (Some("team"), 10 << 30), (Some("team/ci"), 5 << 10), (Some("x"), 7)]);
        for bad in ["", "x", "g", "1x", "-1", "1.5g", "Team=1", "../a=1", "=1", "1,2", "a=1,a/=2", "99999999999t"] {
            assert!(Quota::parse_list(bad).is_err(), "{bad:?}");
        }
    }
}
