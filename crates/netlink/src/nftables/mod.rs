//! nf_tables (`NETLINK_NETFILTER`): tables, chains, rules, sets and maps, changed in transactions.
//!
//! A [`Transaction`] collects changes to one IPv4 table; [`NftSocket::apply`] sends it as one batch, which the kernel
//! puts in force as a whole or not at all. Nothing here runs the `nft` program.
//!
//! See the kernel's `include/uapi/linux/netfilter/nf_tables.h` and `nft(8)` for the terms.

mod expression;
mod inventory;
mod monitor;
mod set;
mod transaction;

use rustix::net::netlink::NETFILTER;

use crate::Result;
use crate::socket::Socket;

pub use expression::{CmpOp, CtKey, Expression, Header, MetaKey, Register, Verdict};
pub use inventory::{ChainFacts, RuleFacts};
pub use monitor::{Change, NftMonitor, Object};
pub use set::{DataType, Element, SetSpec};
pub use transaction::{BaseChain, ChainKind, Hook, Policy, Transaction, priority};

/// nfnetlink subsystem of nf_tables.
const SUBSYSTEM: u16 = 10;
/// `NFPROTO_IPV4`.
const FAMILY_IPV4: u8 = 2;

const NEW_TABLE: u16 = message_type(0);
const GET_TABLE: u16 = message_type(1);
const DELETE_TABLE: u16 = message_type(2);
const NEW_CHAIN: u16 = message_type(3);
const GET_CHAIN: u16 = message_type(4);
const NEW_RULE: u16 = message_type(6);
const GET_RULE: u16 = message_type(7);
const DELETE_RULE: u16 = message_type(8);
const NEW_SET: u16 = message_type(9);
const NEW_ELEMENT: u16 = message_type(12);
const GET_ELEMENT: u16 = message_type(13);
const DELETE_ELEMENT: u16 = message_type(14);

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;

const fn message_type(number: u16) -> u16 {
    SUBSYSTEM << 8 | number
}

/// `struct nfgenmsg` for an IPv4 object.
const IPV4: [u8; 4] = [FAMILY_IPV4, 0, 0, 0];

/// A `NETLINK_NETFILTER` socket for nf_tables, bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct NftSocket {
    socket: Socket,
}

impl NftSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`crate::Error::Socket`] when the kernel lacks nfnetlink or descriptors have run out.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Some(NETFILTER))? })
    }

    /// Puts all changes of the transaction in force, or none.
    ///
    /// # Errors
    /// The kernel's first refusal, naming the change it refused. [`crate::Error::is_absent`] when the table, chain,
    /// set or element to be changed does not exist.
    pub fn apply(&mut self, transaction: Transaction) -> Result<()> {
        match transaction.finish()? {
            Some(messages) => self.socket.transaction(messages),
            None => Ok(()),
        }
    }

    /// The port id its changes are marked with in notifications; 0 before the first.
    #[must_use]
    pub fn port_id(&self) -> u32 {
        self.socket.port_id()
    }

    /// Names of the IPv4 tables.
    ///
    /// # Errors
    /// As any request.
    pub fn tables(&mut self) -> Result<Vec<String>> {
        inventory::tables(&mut self.socket)
    }

    /// The IPv4 chains of all tables.
    ///
    /// # Errors
    /// As any request.
    pub fn chains(&mut self) -> Result<Vec<ChainFacts>> {
        inventory::chains(&mut self.socket)
    }

    /// The rules of one IPv4 chain, in order.
    ///
    /// # Errors
    /// As any request.
    pub fn rules(&mut self, table: &str, chain: &str) -> Result<Vec<RuleFacts>> {
        inventory::rules(&mut self.socket, table, chain)
    }

    /// The elements of one set or map of an IPv4 table, in no particular order.
    ///
    /// # Errors
    /// [`crate::Error::is_absent`] when there is no such table or set.
    pub fn elements(&mut self, table: &str, set: &str) -> Result<Vec<Element>> {
        inventory::elements(&mut self.socket, table, set)
    }
}
