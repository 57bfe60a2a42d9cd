//! Making room in other programs' firewalls that drop forwarded packets by default.
//!
//! nf_tables packets must pass every table, so a forward chain with policy drop, as dockerd and many set-up guides
//! leave behind, cuts our containers off whatever our own table accepts. Two rules per bridge, marked with a comment, are
//! put at the end of such chains; of an internal network one, for packets between its own ports, which are forwarded too
//! where bridges are filtered. At the end they overrule the policy alone: what the administrator's rules, or dockerd's in
//! `DOCKER-USER`, decide stands, for what goes to our containers and for what comes from them.
//! They are written the way iptables writes them, since other forms make `iptables` refuse the whole table; what may
//! reach a container is still decided by our own table.

use std::collections::BTreeSet;

use netlink::nftables::{ChainFacts, CmpOp, Expression, Family, NftSocket, Transaction, Verdict};

/// Hook number of forward.
const FORWARD: u32 = 2;

/// Start of the comment on our rules; the bridge's name follows.
const MARK: &str = "dhow ";

/// A chain that drops by default.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ForeignChain {
    family: Family,
    table: String,
    chain: String,
}

/// The chains to put rules in. `own` are the names of tables that are ours or our user's, of family `inet`.
pub(crate) fn dropping(socket: &mut NftSocket, own: &[&str]) -> netlink::Result<Vec<ForeignChain>> {
    let dropping = places(socket, own)?.into_iter().filter(|chain| chain.drops);
    Ok(dropping.map(|ChainFacts { family, table, name, .. }| ForeignChain { family, table, chain: name }).collect())
}

/// A bridge that needs room, and whether its network is internal.
pub(crate) type Bridge<'a> = (&'a str, bool);

/// Puts accepting rules for the bridges at the end of the chains, where they are not there yet.
pub(crate) fn admit<'a>(
    socket: &mut NftSocket,
    chains: &[ForeignChain],
    bridges: impl Iterator<Item = Bridge<'a>> + Clone,
) -> netlink::Result<()> {
    for place in chains {
        let rules = ignore_absent(socket.rules_of(place.family, &place.table, &place.chain))?.unwrap_or_default();
        let comments: BTreeSet<&str> = rules.iter().map(|rule| rule.comment.as_str()).collect();
        let mut transaction = Transaction::of(place.family, &place.table);
        for (bridge, internal) in bridges.clone() {
            let comment = comment(bridge);
            if comments.contains(comment.as_str()) {
                continue;
            }
            let (from, to) = (Expression::input(CmpOp::Equal, bridge), Expression::output(CmpOp::Equal, bridge));
            let rules = if internal { vec![[&from[..], &to].concat()] } else { vec![to.to_vec(), from.to_vec()] };
            for matches in rules {
                let action = [Expression::Counter, Expression::Verdict(Verdict::Accept)];
                transaction.add_rule(&place.chain, &comment, &[&matches[..], &action].concat());
            }
        }
        ignore_absent(socket.apply(transaction))?;
    }
    Ok(())
}

/// Removes what [`admit`] put in for the bridges, also where a chain does not drop any more.
pub(crate) fn withdraw<'a>(
    socket: &mut NftSocket,
    own: &[&str],
    bridges: impl Iterator<Item = &'a str>,
) -> netlink::Result<()> {
    let comments: BTreeSet<String> = bridges.map(comment).collect();
    for place in places(socket, own)? {
        let rules = ignore_absent(socket.rules_of(place.family, &place.table, &place.name))?.unwrap_or_default();
        let mut transaction = Transaction::of(place.family, &place.table);
        for rule in rules.iter().filter(|rule| comments.contains(&rule.comment)) {
            transaction.delete_rule(&place.name, rule.handle);
        }
        ignore_absent(socket.apply(transaction))?;
    }
    Ok(())
}

/// Bridges that rules are in foreign chains for, marked with our comment.
pub(crate) fn admitted(socket: &mut NftSocket, own: &[&str]) -> netlink::Result<BTreeSet<String>> {
    let mut bridges = BTreeSet::new();
    for place in places(socket, own)? {
        let rules = ignore_absent(socket.rules_of(place.family, &place.table, &place.name))?.unwrap_or_default();
        bridges.extend(rules.iter().filter_map(|rule| Some(rule.comment.strip_prefix(MARK)?.to_owned())));
    }
    Ok(bridges)
}

/// Chains of others that see what is forwarded between links: those that rules of ours may be in.
fn places(socket: &mut NftSocket, own: &[&str]) -> netlink::Result<Vec<ChainFacts>> {
    let mut chains = socket.all_chains()?;
    chains.retain(|chain| match chain.family {
        _ if chain.hook != Some(FORWARD) => false,
        Family::Ipv4 | Family::Ipv6 => true,
        Family::Inet => !own.contains(&chain.table.as_str()),
        Family::Arp | Family::Bridge | Family::Netdev => false,
    });
    Ok(chains)
}

/// A foreign chain may go while we look at it.
fn ignore_absent<T>(result: netlink::Result<T>) -> netlink::Result<Option<T>> {
    match result {
        Err(error) if error.is_absent() => Ok(None),
        other => other.map(Some),
    }
}

fn comment(bridge: &str) -> String {
    format!("{MARK}{bridge}")
}
