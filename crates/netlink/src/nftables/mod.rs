//! nf_tables (`NETLINK_NETFILTER`): tables, chains, rules, sets and maps, changed in transactions.
//!
//! A [`Transaction`] collects changes to tables of any [`Family`]; [`NftSocket::apply`] sends it as one batch, which the
//! kernel puts in force as a whole or not at all. Nothing here runs the `nft` program.
//!
//! See the kernel's `include/uapi/linux/netfilter/nf_tables.h` and `nft(8)` for the terms.

mod expression;
mod family;
mod inventory;
mod monitor;
mod set;
mod transaction;

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;

use crate::attribute::Attributes;
use crate::message::{ACK, Messages};
use crate::socket::Socket;
use crate::{Error, Result};

pub use expression::{Checksum, CmpOp, CtKey, Expression, Header, MetaKey, NatKind, Register, Verdict};
pub use family::Family;
pub use inventory::{ChainFacts, RuleFacts, TableFacts};
pub use monitor::{Change, NftMonitor, Object};
pub use set::{DataType, Element, SetSpec};
pub use transaction::{BaseChain, ChainKind, Hook, Policy, Transaction, priority};

/// Table flag: only the socket that made or adopted the table may change it (`NFT_TABLE_F_OWNER`, since Linux 5.12).
pub const TABLE_OWNER: u32 = 2;
/// Table flag beside [`TABLE_OWNER`]: the table outlives its owner's socket (`NFT_TABLE_F_PERSIST`, since Linux 6.9).
/// It is an orphan then, which another socket adopts by making it anew with the same flags.
pub const TABLE_PERSIST: u32 = 4;

/// nfnetlink subsystem of nf_tables.
const SUBSYSTEM: u16 = 10;
/// A table that never is: see [`NftSocket::has_persistent_tables`].
const PROBE: &str = "persist-probe-never-made";

const NEW_TABLE: u16 = message_type(0);
const GET_TABLE: u16 = message_type(1);
const DELETE_TABLE: u16 = message_type(2);
const NEW_CHAIN: u16 = message_type(3);
const GET_CHAIN: u16 = message_type(4);
const DELETE_CHAIN: u16 = message_type(5);
const NEW_RULE: u16 = message_type(6);
const GET_RULE: u16 = message_type(7);
const DELETE_RULE: u16 = message_type(8);
const NEW_SET: u16 = message_type(9);
const DELETE_SET: u16 = message_type(11);
const NEW_ELEMENT: u16 = message_type(12);
const GET_ELEMENT: u16 = message_type(13);
const NEW_GENERATION: u16 = message_type(15);
const GET_GENERATION: u16 = message_type(16);
const DELETE_ELEMENT: u16 = message_type(14);

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_OWNED_BY: u16 = 7;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_INTERVAL_END: u32 = 1;

const fn message_type(number: u16) -> u16 {
    SUBSYSTEM << 8 | number
}

/// Length of `struct nfgenmsg`.
const NFGENMSG: usize = 4;

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

    /// The number of the ruleset in force: each transaction by anybody makes it the next one.
    ///
    /// # Errors
    /// As any request.
    pub fn generation(&mut self) -> Result<u32> {
        let mut messages = Messages::new();
        messages.message(GET_GENERATION, ACK, "read the number of the ruleset", |m| m.raw(&[0; NFGENMSG]));
        let mut generation = None;
        self.socket.query(messages, |kind, body| {
            if kind == NEW_GENERATION {
                generation = body.get(NFGENMSG..).and_then(|rest| Attributes(rest).find(1)?.be32());
            }
        })?;
        generation.ok_or(Error::Protocol("the number of the ruleset is missing"))
    }

    /// Whether this kernel has tables that belong to a socket and outlive it ([`TABLE_OWNER`] with [`TABLE_PERSIST`]).
    /// Nothing is changed: what is asked for cannot be completed, and the answer is in what the kernel objects to.
    ///
    /// # Errors
    /// Any refusal that answers neither way, such as for lack of `CAP_NET_ADMIN`.
    pub fn has_persistent_tables(&mut self) -> Result<bool> {
        let mut transaction = Transaction::of(Family::Inet, PROBE);
        transaction.create_table_with(TABLE_OWNER | TABLE_PERSIST).delete_rule(PROBE, u64::MAX);
        match self.apply(transaction) {
            Ok(()) => Err(Error::Protocol("a rule that cannot be was deleted")),
            Err(error) if error.is_absent() => Ok(true),
            Err(error) if matches!(error.errno(), Some(Errno::OPNOTSUPP | Errno::INVAL)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Names of the IPv4 tables.
    ///
    /// # Errors
    /// As any request.
    pub fn tables(&mut self) -> Result<Vec<String>> {
        let tables = self.all_tables()?.into_iter();
        Ok(tables.filter(|table| table.family == Family::Ipv4).map(|table| table.name).collect())
    }

    /// The tables of every family.
    ///
    /// # Errors
    /// As any request.
    pub fn all_tables(&mut self) -> Result<Vec<TableFacts>> {
        inventory::tables(&mut self.socket)
    }

    /// The IPv4 chains of all tables.
    ///
    /// # Errors
    /// As any request.
    pub fn chains(&mut self) -> Result<Vec<ChainFacts>> {
        Ok(self.all_chains()?.into_iter().filter(|chain| chain.family == Family::Ipv4).collect())
    }

    /// The chains of all tables of every family.
    ///
    /// # Errors
    /// As any request.
    pub fn all_chains(&mut self) -> Result<Vec<ChainFacts>> {
        inventory::chains(&mut self.socket)
    }

    /// The rules of one IPv4 chain, in order.
    ///
    /// # Errors
    /// As any request.
    pub fn rules(&mut self, table: &str, chain: &str) -> Result<Vec<RuleFacts>> {
        self.rules_of(Family::Ipv4, table, chain)
    }

    /// The rules of one chain, in order.
    ///
    /// # Errors
    /// As any request.
    pub fn rules_of(&mut self, family: Family, table: &str, chain: &str) -> Result<Vec<RuleFacts>> {
        inventory::rules(&mut self.socket, family, table, chain)
    }

    /// The elements of one set or map of an IPv4 table, in no particular order.
    ///
    /// # Errors
    /// [`crate::Error::is_absent`] when there is no such table or set.
    pub fn elements(&mut self, table: &str, set: &str) -> Result<Vec<Element>> {
        self.elements_of(Family::Ipv4, table, set)
    }

    /// The elements of one set or map, in no particular order. While the kernel grows the hash table of a set, just after
    /// many were added, a list can repeat or miss some.
    ///
    /// # Errors
    /// [`crate::Error::is_absent`] when there is no such table or set.
    pub fn elements_of(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<Element>> {
        inventory::elements(&mut self.socket, family, table, set)
    }
}
