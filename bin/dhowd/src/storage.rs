//! The storage options: what is kept of images, and when room is made.
//!
//! `compressed=reproduce|keep`, `compressed-after=10m`, `gc-high=85%`, `gc-low=80%`, `gc-min-age=24h`, `tag-versions=100`, given by
//! `--storage-opt` or `storage-opts` in `daemon.json`.

use std::time::Duration;

use engine::{EngineConfig, Watermark};

/// Versions of a tag that may be kept: all of them are read at the start.
const VERSIONS_MAX: usize = 10_000;

/// What the options ask for, in `config`.
///
/// # Errors
/// For an option that is not known or a value that makes no sense, with what would.
pub fn apply(options: &[(String, String)], config: &mut EngineConfig) -> Result<(), String> {
    let (mut high, mut low, mut min_age) = (None, None, None);
    let (mut keep, mut after) = (false, None);
    for (key, value) in options {
        let bad = |use_instead: &str| format!("invalid storage-opt {key}={value}: use {use_instead}");
        match key.as_str() {
            "compressed" => {
                keep = match value.as_str() {
                    "reproduce" => false,
                    "keep" => true,
                    _ => return Err(bad("reproduce or keep")),
                }
            }
            "compressed-after" => {
                let quiet = crate::registry::parse_duration(value);
                after = Some(quiet.map_err(|_| bad("a time such as 10m or 24h"))?);
            }
            "gc-high" => high = Some(percent(value).ok_or_else(|| bad("a percentage from 1% to 99%"))?),
            "gc-low" => low = Some(percent(value).ok_or_else(|| bad("a percentage from 1% to 99%"))?),
            "gc-min-age" => {
                let age = crate::registry::parse_duration(value);
                min_age = Some(age.map_err(|_| bad("a time such as 24h or 30m"))?);
            }
            "tag-versions" => {
                let number = value.parse().ok().filter(|number| (1..=VERSIONS_MAX).contains(number));
                config.tag_versions = number.ok_or_else(|| bad("a number from 1 to 10000"))?;
            }
            _ => {
                return Err(format!(
                    "storage-opt {key} is not known: use compressed, compressed-after, gc-high, gc-low, gc-min-age or \
                     tag-versions"
                ));
            }
        }
    }
    match (keep, after) {
        (true, Some(_)) => return Err("storage-opt compressed-after needs compressed=reproduce".to_owned()),
        (true, None) => config.compact = None,
        (false, after) => config.compact = after.or(config.compact),
    }
    config.watermark = match (high, low) {
        (None, None) if min_age.is_none() => None,
        (None, _) => return Err("storage-opt gc-low and gc-min-age need gc-high as well".to_owned()),
        (Some(high), low) => {
            let low = low.unwrap_or_else(|| high.saturating_sub(5).max(1));
            if low >= high {
                return Err(format!("storage-opt gc-low={low}% must be less than gc-high={high}%"));
            }
            Some(Watermark { high, low, min_age: min_age.unwrap_or(Duration::from_secs(24 * 3600)) })
        }
    };
    Ok(())
}

fn percent(text: &str) -> Option<u8> {
    let number: u8 = text.strip_suffix('%').unwrap_or(text).parse().ok()?;
    (1..=99).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &str) -> Result<EngineConfig, String> {
        let pairs = options.split_whitespace().filter_map(|option| option.split_once('='));
        let pairs: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut config = EngineConfig::default();
        apply(&pairs, &mut config).map(|()| config)
    }

    #[test]
    fn options_and_their_defaults() {
        let none = read("").unwrap();
        assert_eq!((none.compact, none.watermark), (Some(Duration::from_secs(600)), None));
        assert_eq!(read("compressed=keep").unwrap().compact, None);
        assert_eq!(read("compressed-after=2h").unwrap().compact, Some(Duration::from_secs(7200)));
        assert_eq!((none.tag_versions, read("tag-versions=7").unwrap().tag_versions), (100, 7));
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(read("gc-high=85%").unwrap().watermark, Some(Watermark { high: 85, low: 80, min_age: day }));
        let all = read("gc-high=90 gc-low=50% gc-min-age=30m").unwrap().watermark;
        assert_eq!(all, Some(Watermark { high: 90, low: 50, min_age: Duration::from_secs(1800) }));
    }

    #[test]
    fn nonsense_is_refused_with_what_would_do() {
        for (options, says) in [
            ("compressed=maybe", "use reproduce or keep"),
            ("compressed-after=soon", "a time such as"),
            ("compressed=keep compressed-after=1h", "needs compressed=reproduce"),
            ("gc-high=0%", "from 1% to 99%"),
            ("gc-high=high", "from 1% to 99%"),
            ("gc-high=80% gc-low=80%", "must be less than"),
            ("gc-low=80%", "need gc-high"),
            ("gc-min-age=1h", "need gc-high"),
            ("gc-high=80% gc-min-age=soon", "a time such as"),
            ("tag-versions=0", "from 1 to 10000"),
            ("tag-versions=all", "from 1 to 10000"),
            ("overlay2.size=10G", "is not known"),
        ] {
            let error = read(options).unwrap_err();
            assert!(error.contains(says), "{options}: {error}");
        }
    }
}
