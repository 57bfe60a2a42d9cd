//! Making room in other programs' firewalls that drop forwarded packets by default.
//!
//! nf_tables packets must pass every table, so a forward chain with policy drop, as dockerd and many set-up guides
//! leave behind, cuts our containers off whatever our own table accepts. Two rules per bridge, marked with a comment, are
//! put in front of such chains (in dockerd's chain for users where there is one, which it promises to leave alone).
//! They are written the way iptables writes them, since other forms make `iptables` refuse the whole table; what may
//! reach a container is still decided by our own table.

use netlink::nftables::{ChainFacts, CmpOp, Expression, NftSocket, Transaction, Verdict};

/// Hook number of forward.
const FORWARD: u32 = 2;
/// dockerd's chain for users' rules, visited first by its forward chain.
const USER_CHAIN: &str = "DOCKER-USER";

/// Puts accepting rules for the bridge in front of every foreign forward chain that drops by default.
pub(crate) fn admit(socket: &mut NftSocket, own_table: &str, bridge: &str) -> netlink::Result<()> {
    let comment = comment(bridge);
    for (table, chain) in chains(socket, own_table)? {
        if socket.rules(&table, &chain)?.iter().any(|rule| rule.comment == comment) {
            continue;
        }
        let mut transaction = Transaction::new(&table);
        for matches in [Expression::output(CmpOp::Equal, bridge), Expression::input(CmpOp::Equal, bridge)] {
            let action = [Expression::Counter, Expression::Verdict(Verdict::Accept)];
            transaction.insert_rule(&chain, &comment, &[&matches[..], &action].concat());
        }
        ignore_absent(socket.apply(transaction))?;
    }
    Ok(())
}

/// Removes what [`admit`] put in.
pub(crate) fn withdraw(socket: &mut NftSocket, own_table: &str, bridge: &str) -> netlink::Result<()> {
    let comment = comment(bridge);
    for facts in socket.chains()?.iter().filter(|chain| chain.table != own_table) {
        if facts.hook != Some(FORWARD) && facts.name != USER_CHAIN {
            continue;
        }
        let mut transaction = Transaction::new(&facts.table);
        for rule in socket.rules(&facts.table, &facts.name)?.iter().filter(|rule| rule.comment == comment) {
            transaction.delete_rule(&facts.name, rule.handle);
        }
        ignore_absent(socket.apply(transaction))?;
    }
    Ok(())
}

/// Tables and chains to put rules in.
fn chains(socket: &mut NftSocket, own_table: &str) -> netlink::Result<Vec<(String, String)>> {
    let chains = socket.chains()?;
    let drops = |chain: &&ChainFacts| chain.table != own_table && chain.hook == Some(FORWARD) && chain.drops;
    Ok(chains
        .iter()
        .filter(drops)
        .map(|chain| {
            let user = chains.iter().any(|other| other.table == chain.table && other.name == USER_CHAIN);
            (chain.table.clone(), if user { USER_CHAIN.to_owned() } else { chain.name.clone() })
        })
        .collect())
}

/// A foreign chain may go while we look at it.
fn ignore_absent(result: netlink::Result<()>) -> netlink::Result<()> {
    match result {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

fn comment(bridge: &str) -> String {
    format!("dhow {bridge}")
}
