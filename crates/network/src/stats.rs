//! Traffic counters of a container's links, for `docker stats`.
//!
//! Read from `/proc/PID/net/dev`, which shows the network namespace of that process: no need to enter it.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Counters of one interface since it was made. Bytes and packets as the container sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStats {
    /// Interface name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Packets dropped on receiving.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Packets dropped on sending.
    pub tx_dropped: u64,
}

/// Counters of all interfaces but loopback in the network namespace of a process.
///
/// # Errors
/// [`Error::Io`] when the process is gone.
pub fn read_stats(pid: u32) -> Result<Vec<InterfaceStats>> {
    let path = format!("/proc/{pid}/net/dev");
    let text = std::fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
    Ok(parse(&text))
}

/// Lines that do not parse, such as the two of the heading, are left out.
fn parse(text: &str) -> Vec<InterfaceStats> {
    text.lines().filter_map(parse_line).filter(|interface| interface.name != "lo").collect()
}

fn parse_line(line: &str) -> Option<InterfaceStats> {
    let (name, counters) = line.rsplit_once(':')?;
    let mut counters = counters.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || counters.next()?.ok();
    let [rx_bytes, rx_packets, rx_errors, rx_dropped] = [next()?, next()?, next()?, next()?];
    // FIFO errors, frame errors, compressed and multicast packets.
    for _ in 0..4 {
        next()?;
    }
    let [tx_bytes, tx_packets, tx_errors, tx_dropped] = [next()?, next()?, next()?, next()?];
    Some(InterfaceStats {
        name: name.trim().to_owned(),
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  eth0: 1234567    1001    1    2    3     4          5         6  7654321    2002    7    8    0     0       0          0
";

    #[test]
    fn counters_come_from_their_columns() {
        let stats = parse(SAMPLE);
        assert_eq!(stats.len(), 1, "loopback and the heading are left out");
        let eth0 = &stats[0];
        assert_eq!((eth0.rx_bytes, eth0.rx_packets, eth0.rx_errors, eth0.rx_dropped), (1_234_567, 1001, 1, 2));
        assert_eq!((eth0.tx_bytes, eth0.tx_packets, eth0.tx_errors, eth0.tx_dropped), (7_654_321, 2002, 7, 8));
    }

    #[test]
    fn malformed_lines_are_left_out() {
        assert!(parse("eth0: 1 2 3\n: \neth1: a b c d e f g h i j k l\nnothing\n").is_empty());
    }

    #[test]
    fn reads_this_process() {
        assert!(read_stats(std::process::id()).is_ok());
        assert!(read_stats(u32::MAX).is_err());
    }
}
