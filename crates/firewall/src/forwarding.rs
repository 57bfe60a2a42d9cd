//! What engines have switched on of the kernel's forwarding between links, in the network namespace of the caller.
//!
//! An engine that switches forwarding on says so by the name of a chain in its own table. That lasts exactly as long as the
//! kernel's setting does: beyond a daemon and `dhow-net`, and not beyond the host's next start. Every engine sees it
//! of the others, which find forwarding switched on and would otherwise take it for the administrator's will.
//!
//! A host that becomes a router by this would be one for links that are nobody's concern here. A last chain drops what
//! comes from no network and goes to none. Bridges of others are networks too, of engines and of virtual machines, whose
//! makers guard them. Since nothing can take back a drop of another table, each engine marks the packets of its networks,
//! and everybody else who wants a packet through can do the same.

use netlink::nftables::{ChainFacts, Family, NftSocket};

use crate::USER_TABLE;
use crate::rules::Forwarding;

/// The bit of a packet's mark that lets it through.
pub const MARK: u32 = 0x4000_0000;

/// The chain that drops.
pub(crate) const SHUT: &str = "between-other-links";
/// Chains that only say something by being there.
const SWITCHED_4: &str = "switched-on-ipv4";
const SWITCHED_6: &str = "switched-on-ipv6";
/// Beginning of the names of engines' tables.
const TABLES: &str = "dhow";
/// `NF_INET_POST_ROUTING`
const POSTROUTING: u32 = 4;

pub(crate) fn families(forwarding: Forwarding) -> impl Iterator<Item = Family> {
    let v4 = forwarding.v4.then_some(Family::Ipv4);
    v4.into_iter().chain(forwarding.v6.then_some(Family::Ipv6))
}

pub(crate) fn chain_of(family: Family) -> &'static str {
    if family == Family::Ipv6 { SWITCHED_6 } else { SWITCHED_4 }
}

/// What engines have switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said {
    /// The one with the table that was asked for.
    pub own: Forwarding,
    /// All others together.
    pub others: Forwarding,
    /// Somebody who is no engine of ours translates addresses of what leaves the host, and so passes packets on as well.
    pub strangers: bool,
}

/// What the engines of this network namespace say in their tables, among them the one with the table of that name.
///
/// # Errors
/// When the kernel does not say what tables there are.
pub fn said(table: &str) -> netlink::Result<Said> {
    let chains = NftSocket::open()?.all_chains()?;
    let mut said = Said::default();
    let ours = |chain: &ChainFacts| chain.family == Family::Inet && chain.table.starts_with(TABLES);
    said.strangers = chains.iter().any(|chain| !ours(chain) && chain.hook == Some(POSTROUTING));
    for chain in chains.iter().filter(|chain| ours(chain) && chain.table != USER_TABLE) {
        let whose = if chain.table == table { &mut said.own } else { &mut said.others };
        whose.v4 |= chain.name == SWITCHED_4;
        whose.v6 |= chain.name == SWITCHED_6;
    }
    Ok(said)
}
