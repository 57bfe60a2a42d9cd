//! A transaction on one IPv4 table: changes in order, in force together or not at all.
//!
//! The invariant: a finished transaction is framed by the batch markers nfnetlink asks for, and exactly its last change
//! asks for an acknowledgement, so that success is one answer and a refusal names the change refused.

use super::expression::Expression;
use super::set::{Element, SetSpec, length, type_number};
use super::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, DATA_VALUE, DELETE_ELEMENT, DELETE_RULE,
    DELETE_TABLE, HOOK_NUMBER, HOOK_PRIORITY, IPV4, LIST_ELEMENT, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET, NEW_TABLE,
    RULE_CHAIN, RULE_EXPRESSIONS, RULE_HANDLE, RULE_TABLE, RULE_USERDATA, SUBSYSTEM, TABLE_NAME,
};
use crate::message::{ACK, APPEND, CREATE, EXCLUSIVE, Messages};
use crate::{Error, Result};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SET_MAP: u32 = 8;
/// Elements per message: far below the 64 KiB of its list attribute.
const ELEMENTS_PER_MESSAGE: usize = 256;
/// Longest name the kernel takes (`NFT_NAME_MAXLEN`), without its NUL.
const NAME_MAX: usize = 255;
/// Longest comment `nft` shows.
const COMMENT_MAX: usize = 127;

/// Where a base chain is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing of what came in.
    Prerouting = 0,
    /// Routed to this host.
    Input = 1,
    /// Routed through this host.
    Forward = 2,
    /// Sent by this host.
    Output = 3,
    /// Before it leaves.
    Postrouting = 4,
}

/// Type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of a connection and may translate it.
    Nat,
}

/// What happens to packets no rule of a base chain decided about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They pass.
    Accept = 1,
    /// They are discarded.
    Drop = 0,
}

/// Priorities of the kernel's own stages at a hook; lower runs first.
pub mod priority {
    /// Before connection tracking.
    pub const RAW: i32 = -300;
    /// Destination translation.
    pub const DESTINATION_NAT: i32 = -100;
    /// Filtering.
    pub const FILTER: i32 = 0;
    /// Source translation.
    pub const SOURCE_NAT: i32 = 100;
}

/// A chain's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// Type.
    pub kind: ChainKind,
    /// Hook.
    pub hook: Hook,
    /// Order among chains of the hook.
    pub priority: i32,
    /// Decision about what no rule decided.
    pub policy: Policy,
}

/// Changes to one IPv4 table.
#[derive(Debug)]
pub struct Transaction {
    table: String,
    messages: Messages,
    sets: u32,
    bad_name: bool,
}

impl Transaction {
    /// No changes yet to the IPv4 table of that name.
    #[must_use]
    pub fn new(table: &str) -> Self {
        let mut messages = Messages::new();
        messages.message(BATCH_BEGIN, 0, "begin a transaction", |m| m.raw(&batch_marker()));
        let mut transaction = Self { table: table.to_owned(), messages, sets: 0, bad_name: false };
        transaction.name(table);
        transaction
    }

    /// Creates the table, or leaves the one there is as it is.
    pub fn create_table(&mut self) -> &mut Self {
        self.table_message(NEW_TABLE, CREATE, "create")
    }

    /// Deletes the table with all its chains, rules and sets. Refused with `ENOENT` when there is none.
    pub fn delete_table(&mut self) -> &mut Self {
        self.table_message(DELETE_TABLE, 0, "delete")
    }

    /// Leaves an empty table, whatever was in it before.
    pub fn replace_table(&mut self) -> &mut Self {
        // Creating first makes deleting sure to find something.
        self.create_table().delete_table().create_table()
    }

    fn table_message(&mut self, kind: u16, flags: u16, verb: &str) -> &mut Self {
        let table = &self.table;
        self.messages.message(kind, flags, format!("{verb} nf_tables table {table}"), |m| {
            m.raw(&IPV4);
            m.text(TABLE_NAME, table);
        });
        self
    }

    /// Creates a chain that other chains jump to.
    pub fn create_chain(&mut self, name: &str) -> &mut Self {
        self.chain(name, None)
    }

    /// Creates a chain at a hook.
    pub fn create_base_chain(&mut self, name: &str, base: &BaseChain) -> &mut Self {
        self.chain(name, Some(base))
    }

    fn chain(&mut self, name: &str, base: Option<&BaseChain>) -> &mut Self {
        self.name(name);
        let table = &self.table;
        self.messages.message(NEW_CHAIN, CREATE, format!("create nf_tables chain {table} {name}"), |m| {
            m.raw(&IPV4);
            m.text(CHAIN_TABLE, table);
            m.text(CHAIN_NAME, name);
            if let Some(base) = base {
                m.nest(CHAIN_HOOK, |m| {
                    m.be32(HOOK_NUMBER, base.hook as u32);
                    m.be32(HOOK_PRIORITY, base.priority.cast_unsigned());
                });
                m.be32(CHAIN_POLICY, base.policy as u32);
                m.text(
                    CHAIN_TYPE,
                    match base.kind {
                        ChainKind::Filter => "filter",
                        ChainKind::Nat => "nat",
                    },
                );
            }
        });
        self
    }

    /// Appends a rule; the comment is what `nft list` shows behind it.
    pub fn add_rule(&mut self, chain: &str, comment: &str, expressions: &[Expression]) -> &mut Self {
        self.rule(chain, comment, expressions, APPEND)
    }

    /// Puts a rule in front of those the chain has.
    pub fn insert_rule(&mut self, chain: &str, comment: &str, expressions: &[Expression]) -> &mut Self {
        self.rule(chain, comment, expressions, 0)
    }

    fn rule(&mut self, chain: &str, comment: &str, expressions: &[Expression], flags: u16) -> &mut Self {
        let table = &self.table;
        let request = format!("add rule \"{comment}\" to nf_tables chain {table} {chain}");
        self.messages.message(NEW_RULE, CREATE | flags, request, |m| {
            m.raw(&IPV4);
            m.text(RULE_TABLE, table);
            m.text(RULE_CHAIN, chain);
            m.nest(RULE_EXPRESSIONS, |m| {
                for expression in expressions {
                    expression.encode(m);
                }
            });
            if !comment.is_empty() {
                m.bytes(RULE_USERDATA, &comment_userdata(comment));
            }
        });
        self
    }

    /// Deletes the rule with that handle. Refused with `ENOENT` when there is none.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) -> &mut Self {
        let table = &self.table;
        let request = format!("delete rule {handle} of nf_tables chain {table} {chain}");
        self.messages.message(DELETE_RULE, 0, request, |m| {
            m.raw(&IPV4);
            m.text(RULE_TABLE, table);
            m.text(RULE_CHAIN, chain);
            m.bytes(RULE_HANDLE, &handle.to_be_bytes());
        });
        self
    }

    /// Creates a set or map.
    pub fn create_set(&mut self, spec: &SetSpec<'_>) -> &mut Self {
        self.name(spec.name);
        self.sets += 1;
        let (table, id) = (&self.table, self.sets);
        self.messages.message(NEW_SET, CREATE, format!("create nf_tables set {table} {}", spec.name), |m| {
            m.raw(&IPV4);
            m.text(1, table);
            m.text(2, spec.name);
            m.be32(3, if spec.value.is_empty() { 0 } else { SET_MAP });
            m.be32(4, type_number(spec.key));
            m.be32(5, length(spec.key));
            if !spec.value.is_empty() {
                m.be32(6, type_number(spec.value));
                m.be32(7, length(spec.value));
            }
            m.be32(10, id);
        });
        self
    }

    /// Adds elements to a set or map. Refused with `EEXIST` when a key is there already.
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(NEW_ELEMENT, CREATE | EXCLUSIVE, "add elements to", set, elements)
    }

    /// Deletes elements by their keys. Refused with `ENOENT` when a key is not there.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) -> &mut Self {
        self.elements(DELETE_ELEMENT, 0, "delete elements of", set, elements)
    }

    fn elements(&mut self, kind: u16, flags: u16, verb: &str, set: &str, elements: &[Element]) -> &mut Self {
        let table = &self.table;
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.messages.message(kind, flags, format!("{verb} nf_tables set {table} {set}"), |m| {
                m.raw(&IPV4);
                m.text(1, table);
                m.text(2, set);
                m.nest(3, |m| {
                    for element in chunk {
                        m.nest(LIST_ELEMENT, |m| {
                            m.nest(1, |m| m.bytes(DATA_VALUE, &element.key));
                            if kind == NEW_ELEMENT && !element.value.is_empty() {
                                m.nest(2, |m| m.bytes(DATA_VALUE, &element.value));
                            }
                        });
                    }
                });
            });
        }
        self
    }

    fn name(&mut self, name: &str) {
        self.bad_name |= name.is_empty() || name.len() > NAME_MAX || name.contains('\0');
    }

    /// The framed batch, or nothing when there are no changes.
    pub(super) fn finish(mut self) -> Result<Option<Messages>> {
        if self.bad_name {
            return Err(Error::Invalid("an nf_tables name is 1 to 255 bytes without NUL"));
        }
        if self.messages.len() == 1 {
            return Ok(None);
        }
        self.messages.flag_last(ACK);
        self.messages.message(BATCH_END, 0, "end a transaction", |m| m.raw(&batch_marker()));
        Ok(Some(self.messages))
    }
}

/// `struct nfgenmsg` of the batch markers: the subsystem in network order.
fn batch_marker() -> [u8; 4] {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    [0, 0, high, low]
}

/// User data of a rule as `nft` writes a comment: type, length, text with NUL.
fn comment_userdata(comment: &str) -> Vec<u8> {
    let mut end = comment.len().min(COMMENT_MAX);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = vec![0, end as u8 + 1];
    bytes.extend_from_slice(&comment.as_bytes()[..end]);
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_transaction_sends_nothing() {
        assert!(Transaction::new("t").finish().unwrap().is_none());
        assert!(Transaction::new("").finish().is_err());
        assert!(Transaction::new("t\0u").finish().is_err());
    }

    #[test]
    fn comments_are_cut_between_characters() {
        let userdata = comment_userdata(&"ü".repeat(100));
        assert_eq!(userdata.len(), 2 + 126 + 1);
        assert_eq!(usize::from(userdata[1]), userdata.len() - 2);
    }
}
