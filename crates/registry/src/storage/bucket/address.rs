//! Where a bucket is, as `--storage` says it: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.

use std::fmt;

/// Longest prefix, bytes: with the longest key of a registry below it stays within the 1024 of every store.
const PREFIX_MAX: usize = 256;

/// A bucket, or a part of one, as content is kept in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAddress {
    pub(super) vendor: Vendor,
    pub(super) bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub(super) prefix: String,
}

/// Whose protocol it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    S3,
    Google,
    Azure,
}

impl Vendor {
    const ALL: [(&str, Self); 3] = [("s3", Self::S3), ("gs", Self::Google), ("az", Self::Azure)];
}

impl BucketAddress {
    /// Parses an address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| format!("{text:?} is not of the form s3://bucket/prefix"))?;
        let vendor = Vendor::ALL.iter().find(|(name, _)| *name == scheme).map(|(_, vendor)| *vendor);
        let vendor = vendor.ok_or_else(|| format!("{text:?}: there are s3://, gs:// and az://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with('.')
                && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
        };
        if !plain(bucket) || bucket.len() > 222 {
            return Err(format!("{text:?}: after {scheme}:// comes the name of a bucket"));
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && !prefix.split('/').all(plain) || prefix.len() > PREFIX_MAX {
            return Err(format!(
                "{text:?}: a prefix is made of letters, digits, '_', '.' and '-' between slashes, {PREFIX_MAX} \
                 characters at most"
            ));
        }
        Ok(Self { vendor, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = Vendor::ALL.iter().find(|(_, vendor)| *vendor == self.vendor).map_or("", |(name, _)| name);
        write!(f, "{scheme}://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("gs://my-bucket/a/b.c/", "gs://my-bucket/a/b.c"),
            ("az://container/x", "az://container/x"),
        ] {
            assert_eq!(BucketAddress::parse(text).unwrap().to_string(), shown);
        }
        let long = format!("s3://b/{}", "x".repeat(300));
        for bad in [
            "",
            "b",
            "/srv",
            "file:///srv",
            "s3:/b",
            "s3://",
            "s3:///a",
            "s3://b//a",
            "s3://b/../a",
            "s3://b/a b",
            "s3://b/.",
            "s3://user@b/a",
            "s3://b/a?x=1",
            "S3://b",
            &long,
        ] {
            assert!(BucketAddress::parse(bad).is_err(), "{bad:?}");
        }
    }
}
