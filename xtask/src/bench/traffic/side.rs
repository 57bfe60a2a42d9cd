//! Two containers of an engine on a network of their own: one serves, also on a published port, the other asks.

use anyhow::{Result, ensure};

use super::lab::{INSIDE, Lab, OUTSIDE, Start};
use super::{PORT, Side};

/// The container that serves, and its name for the other.
pub const SERVER: &str = "dhow-bench-server";
const CLIENT: &str = "dhow-bench-client";
const NETWORK: &str = "dhow-bench-traffic";

pub struct Pair<'a> {
    side: &'a Side,
    /// Of the server.
    pub address: String,
}

impl<'a> Pair<'a> {
    pub fn make(side: &'a Side, lab: &Lab, published: u16) -> Result<Self> {
        // From here on what there is goes with this.
        let mut pair = Self { side, address: String::new() };
        pair.remove();
        side.run(&["network", "create", NETWORK])?;
        let program = format!("{}:{INSIDE}:ro", lab.program());
        let common = ["run", "-d", "--network", NETWORK, "--dns", OUTSIDE, "-v", &program];
        let publish = format!("{published}:{PORT}");
        let own = format!("0.0.0.0:{PORT}");
        side.run(&[&common[..], &["--name", SERVER, "-p", &publish, "busybox", INSIDE, "serve", &own]].concat())?;
        side.run(&[&common[..], &["--name", CLIENT, "busybox", "sleep", "100000"]].concat())?;
        let place = format!("{{{{(index .NetworkSettings.Networks \"{NETWORK}\").IPAddress}}}}");
        pair.address = side.output(&["inspect", "--format", &place, SERVER])?;
        ensure!(!pair.address.is_empty(), "the server has no address");
        Ok(pair)
    }

    /// In the container that asks.
    pub fn start(&self) -> Start {
        let client = self.side.client.to_string_lossy();
        let words = [&*client, "-H", &self.side.socket, "exec", CLIENT];
        Start { words: words.map(str::to_owned).to_vec(), contained: true }
    }

    fn remove(&self) {
        let _ = self.side.run(&["rm", "-f", SERVER, CLIENT]);
        let _ = self.side.run(&["network", "rm", NETWORK]);
    }
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}
