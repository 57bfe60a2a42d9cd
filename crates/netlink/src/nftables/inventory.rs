//! What is in force: tables, chains, rules and elements, read by dumps.
//!
//! Used to notice foreign chains that would drop forwarded traffic, to find our own rules again, and by tests.

use std::cell::RefCell;

use super::expression::Verdict;
use super::set::Element;
use super::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, DATA_VALUE, DATA_VERDICT, ELEMENT_FLAGS, ELEMENT_INTERVAL_END,
    Family, GET_CHAIN, GET_ELEMENT, GET_RULE, GET_TABLE, HOOK_NUMBER, LIST_ELEMENT, NEW_CHAIN, NEW_ELEMENT, NEW_RULE,
    NEW_TABLE, NFGENMSG, RULE_CHAIN, RULE_HANDLE, RULE_TABLE, RULE_USERDATA, TABLE_FLAGS, TABLE_NAME, TABLE_OWNED_BY,
};
use crate::Result;
use crate::attribute::Attributes;
use crate::message::Messages;
use crate::socket::Socket;

/// A table in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Flags such as [`super::TABLE_OWNER`].
    pub flags: u32,
    /// Port id of the socket that owns it.
    pub owner: Option<u32>,
}

/// A chain in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFacts {
    /// Family of its table.
    pub family: Family,
    /// Table it belongs to.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Hook number for base chains (`NF_INET_*`: 2 is forward).
    pub hook: Option<u32>,
    /// Whether a base chain drops what its rules do not decide about.
    pub drops: bool,
}

/// A rule in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFacts {
    /// Handle to delete it by.
    pub handle: u64,
    /// Its comment, empty without one.
    pub comment: String,
}

/// `struct nfgenmsg` that asks for every family.
const ANY: [u8; NFGENMSG] = [0; NFGENMSG];

/// Family and attributes of a message, when it tells of an object of the wanted kind.
fn attributes(kind: u16, wanted: u16, body: &[u8]) -> Option<(Family, Attributes<'_>)> {
    let (header, rest) = body.split_at_checked(NFGENMSG)?;
    let family = Family::from_number(header[0])?;
    (kind == wanted).then_some((family, Attributes(rest)))
}

fn collect<T>(
    socket: &mut Socket,
    request: u16,
    answer: u16,
    fixed: &[u8],
    what: &'static str,
    parse: impl Fn(Family, Attributes<'_>) -> Option<T>,
) -> Result<Vec<T>> {
    let found = RefCell::new(Vec::new());
    let each = |kind: u16, body: &[u8]| {
        found.borrow_mut().extend(attributes(kind, answer, body).and_then(|(family, a)| parse(family, a)));
    };
    socket.dump(request, fixed, what, each, || found.borrow_mut().clear())?;
    Ok(found.into_inner())
}

pub(super) fn tables(socket: &mut Socket) -> Result<Vec<TableFacts>> {
    collect(socket, GET_TABLE, NEW_TABLE, &ANY, "list nf_tables tables", |family, a| {
        Some(TableFacts {
            family,
            name: a.find(TABLE_NAME)?.text(),
            flags: a.find(TABLE_FLAGS).and_then(|flags| flags.be32()).unwrap_or(0),
            owner: a.find(TABLE_OWNED_BY).and_then(|owner| owner.be32()),
        })
    })
}

pub(super) fn chains(socket: &mut Socket) -> Result<Vec<ChainFacts>> {
    collect(socket, GET_CHAIN, NEW_CHAIN, &ANY, "list nf_tables chains", |family, a| {
        Some(ChainFacts {
            family,
            table: a.find(CHAIN_TABLE)?.text(),
            name: a.find(CHAIN_NAME)?.text(),
            hook: a.find(CHAIN_HOOK).and_then(|hook| hook.nested().find(HOOK_NUMBER)?.be32()),
            drops: a.find(CHAIN_POLICY).and_then(|policy| policy.be32()) == Some(0),
        })
    })
}

pub(super) fn rules(socket: &mut Socket, family: Family, table: &str, chain: &str) -> Result<Vec<RuleFacts>> {
    let fixed = with_names(family, RULE_TABLE, table, RULE_CHAIN, chain);
    collect(socket, GET_RULE, NEW_RULE, &fixed, "list nf_tables rules", |found, a| {
        // Kernels that ignore the filter in the request send every table's rules.
        if found != family || a.find(RULE_TABLE)?.text() != table || a.find(RULE_CHAIN)?.text() != chain {
            return None;
        }
        Some(RuleFacts {
            handle: u64::from_be_bytes(a.find(RULE_HANDLE)?.payload.try_into().ok()?),
            comment: a.find(RULE_USERDATA).map(|data| comment(data.payload)).unwrap_or_default(),
        })
    })
}

pub(super) fn elements(socket: &mut Socket, family: Family, table: &str, set: &str) -> Result<Vec<Element>> {
    let fixed = with_names(family, 1, table, 2, set);
    let lists = collect(socket, GET_ELEMENT, NEW_ELEMENT, &fixed, "list nf_tables elements", |_, a| {
        let entries = a.find(3)?.nested().filter(|entry| entry.kind == LIST_ELEMENT);
        Some(entries.filter_map(|entry| element(entry.nested())).collect::<Vec<Element>>())
    })?;
    Ok(lists.into_iter().flatten().collect())
}

fn element(attributes: Attributes<'_>) -> Option<Element> {
    let data = |kind| attributes.find(kind).map(|data| data.nested());
    let bytes = |data: Attributes<'_>| Some(data.find(DATA_VALUE)?.payload.to_vec());
    let flags = attributes.find(ELEMENT_FLAGS).and_then(|flags| flags.be32()).unwrap_or(0);
    Some(Element {
        key: bytes(data(1)?)?,
        value: data(2).and_then(bytes).unwrap_or_default(),
        verdict: data(2).and_then(|data| Verdict::parse(data.find(DATA_VERDICT)?.nested())),
        interval_end: flags & ELEMENT_INTERVAL_END != 0,
    })
}

/// Fixed part and two name attributes, as one block for a dump request.
fn with_names(family: Family, first: u16, first_name: &str, second: u16, second_name: &str) -> Vec<u8> {
    let mut messages = Messages::new();
    messages.message(0, 0, "", |m| {
        m.raw(&family.header());
        m.text(first, first_name);
        m.text(second, second_name);
    });
    messages.numbered(0).map(|bytes| bytes[crate::message::HEADER..].to_vec()).unwrap_or_default()
}

/// The comment in a rule's user data: a list of type, length, value; comments are type 0.
fn comment(mut userdata: &[u8]) -> String {
    while let [kind, length, rest @ ..] = userdata {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        if *kind == 0 {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            return String::from_utf8_lossy(&value[..end]).into_owned();
        }
        userdata = rest;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comment_survives_malformed_user_data() {
        assert_eq!(comment(&[0, 3, b'h', b'i', 0]), "hi");
        assert_eq!(comment(&[1, 1, 9, 0, 2, b'x', 0]), "x");
        for bad in [&[][..], &[0], &[0, 9, b'x'], &[1, 200]] {
            assert_eq!(comment(bad), "");
        }
    }
}
