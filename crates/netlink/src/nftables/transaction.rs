//! A transaction: changes in order to one table or several, in force together or not at all.
//!
//! The invariant: a finished transaction is framed by the batch markers nfnetlink asks for, and exactly its last change
//! asks for an acknowledgement, so that success is one answer and a refusal names the change refused.

use super::expression::Expression;
use super::set::{DataType, Element, SetSpec, length, type_number};
use super::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, DATA_VALUE, DATA_VERDICT, DELETE_CHAIN,
    DELETE_ELEMENT, DELETE_RULE, DELETE_SET, DELETE_TABLE, ELEMENT_FLAGS, ELEMENT_INTERVAL_END, Family, HOOK_DEVICE,
    HOOK_NUMBER, HOOK_PRIORITY, LIST_ELEMENT, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET, NEW_TABLE, RULE_CHAIN,
    RULE_EXPRESSIONS, RULE_HANDLE, RULE_TABLE, RULE_USERDATA, SUBSYSTEM, TABLE_FLAGS, TABLE_NAME,
};
use crate::message::{ACK, APPEND, CREATE, EXCLUSIVE, Messages};
use crate::{Error, Result};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SET_INTERVAL: u32 = 4;
const SET_MAP: u32 = 8;
/// `NF_NETDEV_INGRESS`.
const NETDEV_INGRESS: u32 = 0;
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

/// Changes to tables.
#[derive(Debug)]
pub struct Transaction {
    family: Family,
    table: String,
    messages: Messages,
    sets: u32,
    bad_name: bool,
}

impl Transaction {
    /// No changes yet to the IPv4 table of that name.
    #[must_use]
    pub fn new(table: &str) -> Self {
        Self::of(Family::Ipv4, table)
    }

    /// No changes yet to the table of that family and name.
    #[must_use]
    pub fn of(family: Family, table: &str) -> Self {
        let mut messages = Messages::new();
        messages.message(BATCH_BEGIN, 0, "begin a transaction", |m| m.raw(&batch_marker()));
        let mut transaction = Self { family, table: String::new(), messages, sets: 0, bad_name: false };
        transaction.table(family, table);
        transaction
    }

    /// The changes that follow are to another table.
    pub fn table(&mut self, family: Family, table: &str) -> &mut Self {
        self.name(table);
        self.family = family;
        table.clone_into(&mut self.table);
        self
    }

    /// How many changes there are, as messages to the kernel: of elements, up to 256 are one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len().saturating_sub(1)
    }

    /// Whether there are no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Creates the table, or leaves the one there is as it is.
    pub fn create_table(&mut self) -> &mut Self {
        self.table_message(NEW_TABLE, CREATE, "create", None)
    }

    /// Creates the table with flags such as [`super::TABLE_OWNER`], or adopts the orphaned one there is. Refused with
    /// `EOPNOTSUPP` when the kernel does not know the flags or the table there is has others, `EPERM` when it is another
    /// socket's.
    pub fn create_table_with(&mut self, flags: u32) -> &mut Self {
        self.table_message(NEW_TABLE, CREATE, "create", Some(flags))
    }

    /// Deletes the table with all its chains, rules and sets. Refused with `ENOENT` when there is none.
    pub fn delete_table(&mut self) -> &mut Self {
        self.table_message(DELETE_TABLE, 0, "delete", None)
    }

    /// Leaves an empty table, whatever was in it before.
    pub fn replace_table(&mut self) -> &mut Self {
        // Creating first makes deleting sure to find something.
        self.create_table().delete_table().create_table()
    }

    fn table_message(&mut self, kind: u16, flags: u16, verb: &str, table_flags: Option<u32>) -> &mut Self {
        let (header, table) = (self.family.header(), &self.table);
        self.messages.message(kind, flags, format!("{verb} nf_tables table {table}"), |m| {
            m.raw(&header);
            m.text(TABLE_NAME, table);
            if let Some(flags) = table_flags {
                m.be32(TABLE_FLAGS, flags);
            }
        });
        self
    }

    /// Creates a chain that other chains jump to.
    pub fn create_chain(&mut self, name: &str) -> &mut Self {
        self.chain(name, None, None)
    }

    /// Creates a chain at a hook.
    pub fn create_base_chain(&mut self, name: &str, base: &BaseChain) -> &mut Self {
        self.chain(name, Some(base), None)
    }

    /// Creates a chain that sees what arrives on one link, in a table of [`Family::Netdev`]; the hook of `base` does not
    /// count. The chain goes with the link.
    pub fn create_ingress_chain(&mut self, name: &str, device: &str, base: &BaseChain) -> &mut Self {
        self.chain(name, Some(base), Some(device))
    }

    fn chain(&mut self, name: &str, base: Option<&BaseChain>, device: Option<&str>) -> &mut Self {
        self.name(name);
        let (header, table) = (self.family.header(), &self.table);
        self.messages.message(NEW_CHAIN, CREATE, format!("create nf_tables chain {table} {name}"), |m| {
            m.raw(&header);
            m.text(CHAIN_TABLE, table);
            m.text(CHAIN_NAME, name);
            if let Some(base) = base {
                m.nest(CHAIN_HOOK, |m| {
                    m.be32(HOOK_NUMBER, if device.is_some() { NETDEV_INGRESS } else { base.hook as u32 });
                    m.be32(HOOK_PRIORITY, base.priority.cast_unsigned());
                    if let Some(device) = device {
                        m.text(HOOK_DEVICE, device);
                    }
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

    /// Deletes a chain with its rules. Refused with `ENOENT` when there is none, `EBUSY` while something jumps to it.
    pub fn delete_chain(&mut self, name: &str) -> &mut Self {
        let (header, table) = (self.family.header(), &self.table);
        self.messages.message(DELETE_CHAIN, 0, format!("delete nf_tables chain {table} {name}"), |m| {
            m.raw(&header);
            m.text(CHAIN_TABLE, table);
            m.text(CHAIN_NAME, name);
        });
        self
    }

    /// Deletes all rules of a chain. Refused with `ENOENT` when there is no such chain.
    pub fn flush_chain(&mut self, name: &str) -> &mut Self {
        let (header, table) = (self.family.header(), &self.table);
        self.messages.message(DELETE_RULE, 0, format!("flush nf_tables chain {table} {name}"), |m| {
            m.raw(&header);
            m.text(RULE_TABLE, table);
            m.text(RULE_CHAIN, name);
        });
        self
    }

    /// Appends a rule; the comment is what `nft list` shows behind it.
    pub fn add_rule(&mut self, chain: &str, comment: &str, expressions: &[Expression]) -> &mut Self {
        self.rule(chain, comment, expressions, APPEND)
    }

    fn rule(&mut self, chain: &str, comment: &str, expressions: &[Expression], flags: u16) -> &mut Self {
        let (header, table) = (self.family.header(), &self.table);
        let request = format!("add rule \"{comment}\" to nf_tables chain {table} {chain}");
        self.messages.message(NEW_RULE, CREATE | flags, request, |m| {
            m.raw(&header);
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
        let (header, table) = (self.family.header(), &self.table);
        let request = format!("delete rule {handle} of nf_tables chain {table} {chain}");
        self.messages.message(DELETE_RULE, 0, request, |m| {
            m.raw(&header);
            m.text(RULE_TABLE, table);
            m.text(RULE_CHAIN, chain);
            m.bytes(RULE_HANDLE, &handle.to_be_bytes());
        });
        self
    }

    /// Creates a set or map.
    pub fn create_set(&mut self, spec: &SetSpec<'_>) -> &mut Self {
        self.set(spec, 0)
    }

    /// Creates a set or map whose keys are intervals, which must not overlap: see [`Element::network`].
    pub fn create_interval_set(&mut self, spec: &SetSpec<'_>) -> &mut Self {
        self.set(spec, SET_INTERVAL)
    }

    fn set(&mut self, spec: &SetSpec<'_>, flags: u32) -> &mut Self {
        self.name(spec.name);
        self.sets += 1;
        let (header, table, id) = (self.family.header(), &self.table, self.sets);
        self.messages.message(NEW_SET, CREATE, format!("create nf_tables set {table} {}", spec.name), |m| {
            m.raw(&header);
            m.text(1, table);
            m.text(2, spec.name);
            m.be32(3, flags | if spec.value.is_empty() { 0 } else { SET_MAP });
            m.be32(4, type_number(spec.key));
            m.be32(5, length(spec.key));
            if !spec.value.is_empty() {
                m.be32(6, type_number(spec.value));
                // A verdict's length is the kernel's affair.
                if length(spec.value) > 0 {
                    m.be32(7, length(spec.value));
                }
            }
            m.be32(10, id);
            if spec.key == [DataType::InterfaceName] {
                m.bytes(13, &host_order_userdata());
            }
        });
        self
    }

    /// Deletes a set or map. Refused with `EBUSY` while a rule refers to it.
    pub fn delete_set(&mut self, name: &str) -> &mut Self {
        let (header, table) = (self.family.header(), &self.table);
        self.messages.message(DELETE_SET, 0, format!("delete nf_tables set {table} {name}"), |m| {
            m.raw(&header);
            m.text(1, table);
            m.text(2, name);
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
        let (header, table) = (self.family.header(), &self.table);
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.messages.message(kind, flags, format!("{verb} nf_tables set {table} {set}"), |m| {
                m.raw(&header);
                m.text(1, table);
                m.text(2, set);
                m.nest(3, |m| {
                    for element in chunk {
                        m.nest(LIST_ELEMENT, |m| {
                            m.nest(1, |m| m.bytes(DATA_VALUE, &element.key));
                            if element.interval_end {
                                m.be32(ELEMENT_FLAGS, ELEMENT_INTERVAL_END);
                            }
                            if kind != NEW_ELEMENT {
                                return;
                            }
                            if let Some(verdict) = &element.verdict {
                                m.nest(2, |m| m.nest(DATA_VERDICT, |m| verdict.encode(m)));
                            } else if !element.value.is_empty() {
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

/// User data of a set whose keys are text, without which `nft` shows them backwards: type (byte order of the key),
/// length, value (1 is the host's).
fn host_order_userdata() -> [u8; 6] {
    let [a, b, c, d] = 1u32.to_ne_bytes();
    [0, 4, a, b, c, d]
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
