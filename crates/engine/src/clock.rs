//! Wall-clock time as the engine keeps and shows it: nanoseconds since the epoch inside, RFC 3339
//! with Go's zero time outside.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, nanoseconds since the epoch.
pub(crate) fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// RFC 3339; 0 is Go's zero time.
pub(crate) fn rfc3339(ns: i64) -> String {
    if ns == 0 {
        return docker_types::time::ZERO.to_owned();
    }
    let nanos = u32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0);
    docker_types::time::rfc3339_nano(ns.div_euclid(1_000_000_000), nanos)
}
