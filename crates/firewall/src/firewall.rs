//! The firewall of one engine: what is wanted and what the kernel has, kept equal.
//!
//! The invariant: the table of rules changes in single transactions, from one complete state to another, so no moment is
//! open that is not open before and after. Where the kernel has them the table carries the flags owner and persist:
//! nobody else can change it, and it stays in force when this process ends. On older kernels a change by others is
//! heard of and everything is put in force again at once. A deleted bridge comes back with its ports.
//!
//! Works in the network namespace of the thread that opens it, and has to be used from there. Synchronous and without
//! threads: the caller polls [`Firewall::descriptors`] and minds [`Firewall::deadline`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink::conntrack::{Connection, ConntrackSocket};
use netlink::nftables::{
    BaseChain, ChainKind, Change as Heard, Family, Hook, NftMonitor, NftSocket, Object, Policy, TABLE_OWNER,
    TABLE_PERSIST, TableFacts, Transaction,
};
use netlink::route::LinkMonitor;
use types::Protocol;

use crate::foreign::{self, ForeignChain};
use crate::links::{Links, Missing};
use crate::rules::{Change, Forwarding, NetRules, PortLink, PortRule};
use crate::ruleset::protocol_number;
use crate::wanted::{Journal, Wanted};
use crate::{Error, Result};

/// The table that is users' own: made empty once, before what we have at the same hook.
pub const USER_TABLE: &str = "dhow-user";
/// Its chain.
const USER_CHAIN: &str = "forward";
const USER_PRIORITY: i32 = -10;

/// How long changes of other firewalls are waited out: they come in bursts.
const SETTLE: Duration = Duration::from_millis(20);
/// The longest pause between two repairs, when somebody keeps undoing them.
const SETTLE_MAX: Duration = Duration::from_millis(640);
/// A repair this long ago belongs to another matter.
const CALM: Duration = Duration::from_secs(5);

/// Readings of some thousand changes each that are taken for one go.
const HEAR_MAX: usize = 64;

/// What the firewall has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions on the table of rules.
    pub transactions: u64,
    /// Messages in them.
    pub messages: u64,
    /// Times that something others had changed was put right.
    pub repairs: u64,
}

/// What others may have damaged.
#[derive(Debug, Default)]
struct Damage {
    /// Our rules.
    rules: bool,
    /// The users' table is gone.
    user_table: bool,
    /// Our place in chains of others.
    foreign: bool,
    /// Some of it is a guess, since messages were lost.
    lost: bool,
    links: Missing,
}

/// How fast repairs of one kind follow each other: whoever undoes them at once has to wait longer each time.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    pause: Duration,
}

impl Pace {
    /// When the next repair may be made.
    fn earliest(&self, now: Instant) -> Instant {
        match self.last {
            Some(last) if now.duration_since(last) < CALM => now.max(last + self.pause),
            _ => now,
        }
    }

    /// Notes a repair.
    fn took(&mut self, now: Instant) {
        let calm = self.last.is_none_or(|last| now.duration_since(last) >= CALM);
        self.pause = if calm { SETTLE } else { (self.pause * 2).min(SETTLE_MAX) };
        self.last = Some(now);
    }
}

/// The firewall of one engine.
#[derive(Debug)]
pub struct Firewall {
    table: String,
    /// Flags of the table, 0 where the kernel has not got them.
    flags: u32,
    wanted: Wanted,
    nft: NftSocket,
    heard: NftMonitor,
    conntrack: ConntrackSocket,
    links: Links,
    links_heard: LinkMonitor,
    /// Chains of others that drop by default, as last looked up.
    foreign: Vec<ForeignChain>,
    damage: Damage,
    repair_at: Option<Instant>,
    pace: Pace,
    foreign_pace: Pace,
    /// The last attempt to put bridges or ports back was refused.
    links_refused: bool,
    stale: Stale,
    forgot_at: Option<Instant>,
    stats: Stats,
}

/// Datagrams whose tracked connections are out of date.
#[derive(Debug, Default)]
struct Stale {
    /// Host ports they were sent to.
    ports: BTreeSet<u16>,
    /// Containers they were led to.
    targets: BTreeSet<IpAddr>,
}

impl Firewall {
    /// Opens the firewall with that table of family `inet`. Nothing changes before [`Self::sync`]: rules that an earlier
    /// process left in force stay so until then.
    ///
    /// # Errors
    /// [`Error::Netlink`] without `CAP_NET_ADMIN` or nf_tables.
    pub fn open(table: &str) -> Result<Self> {
        let mut nft = NftSocket::open()?;
        let flags = if nft.has_persistent_tables()? { TABLE_OWNER | TABLE_PERSIST } else { 0 };
        Self::with_flags(table, nft, flags)
    }

    /// As [`Self::open`], with a table that others can change as on kernels before 6.9.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_unowned(table: &str) -> Result<Self> {
        Self::with_flags(table, NftSocket::open()?, 0)
    }

    fn with_flags(table: &str, nft: NftSocket, flags: u32) -> Result<Self> {
        Ok(Self {
            table: table.to_owned(),
            flags,
            wanted: Wanted::default(),
            nft,
            heard: NftMonitor::open()?,
            conntrack: ConntrackSocket::open()?,
            links: Links::open()?,
            links_heard: LinkMonitor::open()?,
            foreign: Vec::new(),
            damage: Damage::default(),
            repair_at: None,
            pace: Pace::default(),
            foreign_pace: Pace::default(),
            links_refused: false,
            stale: Stale::default(),
            forgot_at: None,
            stats: Stats::default(),
        })
    }

    /// Replaces everything that is wanted, and everything in the table, in one transaction. Ports of bridges that are not
    /// in place are put there by the next [`Self::handle_events`]; bridges that are not there are left to whoever makes
    /// them, or to [`Self::restore_links`].
    ///
    /// # Errors
    /// [`Error::Owned`], what contradicts itself, or the kernel's refusal. Nothing has changed then.
    pub fn sync(&mut self, nets: Vec<NetRules>, links: Vec<PortLink>, ports: Vec<PortRule>) -> Result<()> {
        self.sync_router(nets, links, ports, Forwarding::default())
    }

    /// As [`Self::sync`], on a host that was made a router as far as `forwarding` says.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn sync_router(
        &mut self,
        nets: Vec<NetRules>,
        links: Vec<PortLink>,
        ports: Vec<PortRule>,
        forwarding: Forwarding,
    ) -> Result<()> {
        let mut changes: Vec<Change> = nets.into_iter().map(Change::PutNet).collect();
        changes.extend(links.into_iter().map(Change::PutLink));
        changes.push(Change::Publish(ports));
        changes.push(Change::SetForwarding(forwarding));
        let mut wanted = Wanted::default();
        wanted.apply(&changes)?;
        let before = std::mem::replace(&mut self.wanted, wanted);
        if let Err(error) = self.install() {
            self.wanted = before;
            return Err(error);
        }
        let gone = self.left_behind(&before);
        let now: BTreeSet<&PortRule> = self.wanted.ports().collect();
        let was: BTreeSet<&PortRule> = before.ports().collect();
        let changed: Vec<PortRule> = if was.is_empty() {
            // A new process does not know what was published before it: connections that go on are none of its business.
            Vec::new()
        } else {
            was.symmetric_difference(&now).map(|port| (*port).clone()).collect()
        };
        self.note_stale(changed.iter());
        self.damage.links.any_port = !self.wanted.links.is_empty();
        self.ease(&gone);
        self.schedule();
        Ok(())
    }

    /// Makes changes, all or none, in one transaction.
    ///
    /// # Errors
    /// What contradicts itself, or the kernel's refusal. Nothing has changed then.
    pub fn batch(&mut self, changes: &[Change]) -> Result<()> {
        let journal = self.wanted.apply(changes)?;
        let mut transaction = self.transaction();
        self.wanted.difference(&journal, &mut transaction);
        let applied = match self.commit(transaction) {
            // The table was never filled, or somebody has changed it and we have not read of it yet: everything anew, with
            // this batch in it.
            Err(error) if error.is_absent() || error.is_exists() => self.install(),
            other => other.map_err(Error::from),
        };
        if let Err(error) = applied {
            self.wanted.undo(journal);
            return Err(error);
        }
        self.settle_batch(&journal);
        Ok(())
    }

    /// What a batch means beyond the table.
    fn settle_batch(&mut self, journal: &Journal) {
        let ports: Vec<PortRule> = journal.changed_ports(&self.wanted).cloned().collect();
        self.note_stale(ports.iter());
        self.damage.links.ports.extend(journal.links().filter(|veth| self.wanted.links.contains_key(*veth)).cloned());
        let gone: Vec<String> = journal
            .nets()
            .filter(|(bridge, before)| {
                let now = self.wanted.nets.get(*bridge);
                before.is_some_and(|before| now.is_none_or(|now| now.internal != before.internal))
            })
            .map(|(bridge, _)| bridge.clone())
            .collect();
        let touched = journal.nets().next().is_some();
        if !gone.is_empty() || (touched && !self.foreign.is_empty()) {
            self.ease(&gone);
        }
        self.schedule();
    }

    /// Puts a network in force, in place of what there was of it.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn put_net(&mut self, net: NetRules) -> Result<()> {
        self.batch(&[Change::PutNet(net)])
    }

    /// Takes a network and its published ports away. Does nothing when there is none.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn remove_net(&mut self, bridge: &str) -> Result<()> {
        self.batch(&[Change::RemoveNet { bridge: bridge.to_owned() }])
    }

    /// Publishes ports, in one transaction however many they are. Those that are published already stay so.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn publish(&mut self, ports: &[PortRule]) -> Result<()> {
        self.batch(&[Change::Publish(ports.to_vec())])
    }

    /// Takes ports back, in one transaction. Those that are not published are passed over.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn unpublish(&mut self, ports: &[PortRule]) -> Result<()> {
        self.batch(&[Change::Unpublish(ports.to_vec())])
    }

    /// Watches over a port of a bridge.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn put_link(&mut self, link: PortLink) -> Result<()> {
        self.batch(&[Change::PutLink(link)])
    }

    /// Watches over it no longer.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn remove_link(&mut self, veth: &str) -> Result<()> {
        self.batch(&[Change::RemoveLink { veth: veth.to_owned() }])
    }

    /// The descriptors to poll for reading; when one is readable, [`Self::handle_events`] is due.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.heard.as_fd(), self.links_heard.as_fd()]
    }

    /// When [`Self::handle_events`] is due though no descriptor is readable.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.repair_at.into_iter().chain(self.forget_at()).min()
    }

    /// Hears what others changed and puts it right; lets go of connections that ports published or taken back have made
    /// out of date. Never waits. What could not be put right is logged and tried again
    /// when [`Self::deadline`] says.
    ///
    /// # Errors
    /// [`Error::Netlink`] when the kernel cannot be listened to any more.
    pub fn handle_events(&mut self) -> Result<()> {
        let own = self.nft.port_id();
        let (damage, table) = (&mut self.damage, &self.table);
        self.heard.read(|change| note(&change, table, own, damage))?;
        let (links, wanted) = (&mut self.links, &self.wanted);
        self.links_heard.read(|event| links.note(&event, wanted, &mut damage.links))?;
        if std::mem::take(&mut self.damage.lost) && self.damage.rules && self.owns()? {
            // Nobody else can have changed what is ours.
            self.damage.rules = false;
        }
        self.schedule();
        if self.repair_at.is_some_and(|at| at <= Instant::now()) {
            self.repair();
        }
        if self.forget_at().is_some_and(|at| at <= Instant::now()) {
            self.forget_stale();
        }
        Ok(())
    }

    /// Looks at every bridge and port there is to watch over, and puts back what is missing.
    ///
    /// # Errors
    /// The first refusal; what it was about is tried again later.
    pub fn restore_links(&mut self) -> Result<()> {
        self.damage.links.all = true;
        let result = self.links.restore(&self.wanted, &mut self.damage.links);
        self.schedule();
        result
    }

    /// What has been done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Whether only this process can change the rules.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.flags & TABLE_OWNER != 0
    }

    /// Ends the watch. The rules stay in force, or go too with `remove`; what is in other firewalls for us goes with them,
    /// the users' table stays.
    ///
    /// # Errors
    /// The kernel's refusal to remove the rules.
    pub fn close(mut self, remove: bool) -> Result<()> {
        if !remove {
            return Ok(());
        }
        let bridges = self.wanted.nets.keys().map(String::as_str);
        let withdrawn = foreign::withdraw(&mut self.nft, &[&self.table, USER_TABLE], bridges);
        let mut transaction = self.transaction();
        transaction.delete_table();
        match self.commit(transaction) {
            Err(error) if error.is_absent() => {}
            other => other?,
        }
        Ok(withdrawn?)
    }

    fn transaction(&self) -> Transaction {
        Transaction::of(Family::Inet, &self.table)
    }

    fn commit(&mut self, transaction: Transaction) -> netlink::Result<()> {
        if !transaction.is_empty() {
            self.stats.transactions += 1;
            self.stats.messages += transaction.len() as u64;
        }
        self.nft.apply(transaction)
    }

    /// Puts everything in force, whatever the table holds, in one transaction.
    fn install(&mut self) -> Result<()> {
        // Twice at most: the table may come or go between looking and acting.
        for last in [false, true] {
            let tables = self.nft.all_tables()?;
            let find = |name: &str| tables.iter().find(|table| table.family == Family::Inet && table.name == name);
            let present = find(&self.table);
            let own = self.nft.port_id();
            if present.is_some_and(|table| table.owner.is_some_and(|owner| owner != own)) {
                return Err(Error::Owned(self.table.clone()));
            }
            let mut transaction = self.transaction();
            if present.is_some() {
                transaction.delete_table();
            }
            if self.flags == 0 {
                transaction.create_table();
            } else {
                transaction.create_table_with(self.flags);
            }
            self.wanted.install(&mut transaction);
            if find(USER_TABLE).is_none() {
                user_table(&mut transaction);
            }
            // What others have done so far is of no account any more.
            let (mut before, mut after) = (Damage::default(), Damage::default());
            self.hear(&mut before);
            let generation = self.nft.generation()?;
            match self.commit(transaction) {
                Err(error) if !last && (error.is_absent() || error.is_exists()) => continue,
                other => other?,
            }
            self.damage.rules = false;
            self.damage.foreign |= before.foreign;
            self.damage.user_table |= before.user_table;
            // A large table tells of itself in more messages than there is room for. That some are lost means nothing as
            // long as nobody else has changed anything meanwhile.
            self.hear(&mut after);
            let undisturbed = self.nft.generation()? == generation.wrapping_add(1);
            self.damage.rules |= after.rules && !(after.lost && undisturbed);
            self.damage.user_table |= after.user_table && !(after.lost && undisturbed);
            self.damage.foreign |= after.foreign;
            return Ok(());
        }
        Ok(())
    }

    /// Whether the table is there and this process alone can change it.
    fn owns(&mut self) -> Result<bool> {
        let own = self.nft.port_id();
        let tables = self.nft.all_tables()?;
        let is_it =
            |table: &TableFacts| table.family == Family::Inet && table.name == self.table && table.owner == Some(own);
        Ok(self.flags != 0 && tables.iter().any(is_it))
    }

    /// Notes what others have done, as far as it can be read in one go.
    fn hear(&mut self, damage: &mut Damage) {
        let own = self.nft.port_id();
        for _ in 0..HEAR_MAX {
            let table = &self.table;
            match self.heard.read(|change| note(&change, table, own, damage)) {
                Ok(true) => {}
                Ok(false) => return,
                // The next reading of events reports it.
                Err(_) => return,
            }
        }
    }

    /// Bridges that are not wanted, but may still have rules in other firewalls: those of before, and those that an earlier
    /// process left. A bridge that is there may be another engine's.
    fn left_behind(&mut self, before: &Wanted) -> Vec<String> {
        let mut left: BTreeSet<String> = before.nets.keys().cloned().collect();
        let earlier = foreign::admitted(&mut self.nft, &[&self.table, USER_TABLE]).unwrap_or_default();
        left.extend(earlier.into_iter().filter(|bridge| !self.links.is_there(bridge)));
        left.retain(|bridge| !self.wanted.nets.contains_key(bridge));
        left.into_iter().collect()
    }

    /// Looks up which chains of others would cut our containers off, and makes room in them; takes the rules of bridges
    /// that are gone out. A failure is logged: it cuts containers off, but opens nothing.
    fn ease(&mut self, gone: &[String]) {
        let own = [self.table.as_str(), USER_TABLE];
        let bridges = self.wanted.nets.values().map(|net| (net.bridge.as_str(), net.internal));
        let eased = foreign::dropping(&mut self.nft, &own).and_then(|chains| {
            self.foreign = chains;
            if !gone.is_empty() {
                foreign::withdraw(&mut self.nft, &own, gone.iter().map(String::as_str))?;
            }
            foreign::admit(&mut self.nft, &self.foreign, bridges)
        });
        if let Err(error) = eased {
            tracing::warn!(%error, "cannot make room in another firewall; containers may be cut off");
            self.damage.foreign = true;
        }
    }

    /// Notes whose translation the kernel has to look up anew: peers that keep sending would otherwise keep the old one.
    fn note_stale<'a>(&mut self, ports: impl Iterator<Item = &'a PortRule>) {
        for port in ports.filter(|port| port.protocol == Protocol::Udp) {
            self.stale.ports.insert(port.host_port);
            self.stale.targets.insert(port.target);
        }
    }

    /// When noted connections are forgotten: soon, but not one by one, since it takes the kernel milliseconds to look
    /// through its table even when that is empty.
    fn forget_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let at = self.forgot_at.map_or(now, |forgot| now.max(forgot + SETTLE));
        (!self.stale.ports.is_empty()).then_some(at)
    }

    fn forget_stale(&mut self) {
        let Stale { ports, targets } = std::mem::take(&mut self.stale);
        let udp = protocol_number(Protocol::Udp);
        let stale = |connection: &Connection| {
            connection.protocol == udp
                && (ports.contains(&connection.destination_port) || targets.contains(&connection.responder))
        };
        if let Err(error) = self.conntrack.forget(stale) {
            tracing::warn!(%error, "cannot forget tracked datagrams; peers that keep sending may reach an old container");
        }
        self.forgot_at = Some(Instant::now());
    }

    /// Sets when the damage known of is put right.
    fn schedule(&mut self) {
        let now = Instant::now();
        let damage = &self.damage;
        let own = (damage.rules || damage.user_table || damage.links.is_grave() || self.links_refused)
            .then(|| self.pace.earliest(now));
        // Ports of containers that have just started are looked at in passing.
        let in_passing = !damage.links.is_empty() && !damage.links.is_grave() && !self.links_refused;
        let ports = in_passing.then_some(now);
        let foreign = damage.foreign.then(|| self.foreign_pace.earliest(now).max(now + SETTLE));
        let due = own.into_iter().chain(ports).chain(foreign).min();
        // More of the same does not put it off.
        self.repair_at = due.map(|due| self.repair_at.map_or(due, |before| before.min(due)));
    }

    fn repair(&mut self) {
        let now = Instant::now();
        self.repair_at = None;
        let damage = std::mem::take(&mut self.damage);
        if damage.rules || damage.user_table || damage.links.is_grave() {
            self.pace.took(now);
            self.stats.repairs += 1;
        }
        if damage.rules || damage.user_table {
            let result = if damage.rules { self.install() } else { self.restore_user_table() };
            if let Err(error) = result {
                tracing::warn!(%error, "cannot put firewall rules in force again");
                self.damage.rules |= damage.rules;
                self.damage.user_table |= damage.user_table;
            }
        }
        self.damage.links = damage.links;
        self.links_refused = false;
        if let Err(error) = self.links.restore(&self.wanted, &mut self.damage.links) {
            tracing::warn!(%error, "cannot put bridges and their ports back");
            self.pace.took(now);
            self.links_refused = !self.damage.links.is_empty();
        }
        if damage.foreign {
            self.foreign_pace.took(now);
            self.ease(&[]);
        }
        self.schedule();
    }

    fn restore_user_table(&mut self) -> Result<()> {
        let present = |table: &TableFacts| table.family == Family::Inet && table.name == USER_TABLE;
        if !self.nft.all_tables()?.iter().any(present) {
            let mut transaction = self.transaction();
            user_table(&mut transaction);
            self.commit(transaction)?;
        }
        Ok(())
    }
}

/// Makes the users' table; what follows in the transaction is about it.
fn user_table(t: &mut Transaction) {
    let (kind, hook, priority) = (ChainKind::Filter, Hook::Forward, USER_PRIORITY);
    t.table(Family::Inet, USER_TABLE);
    t.create_table().create_base_chain(USER_CHAIN, &BaseChain { kind, hook, priority, policy: Policy::Accept });
}

/// What a change by others calls for.
fn note(change: &Heard, table: &str, own: u32, damage: &mut Damage) {
    match change {
        Heard::Lost => {
            damage.rules = true;
            damage.user_table = true;
            damage.foreign = true;
            damage.lost = true;
        }
        Heard::Made { by, .. } if *by == own => {}
        Heard::Made { family: Family::Inet, table: changed, .. } if changed == table => damage.rules = true,
        Heard::Made { family: Family::Inet, table: changed, object, removed, .. } if changed == USER_TABLE => {
            damage.user_table |= *object == Object::Table && *removed;
        }
        // Our place in a foreign chain may be gone, or a dropping chain may be new.
        Heard::Made { family: Family::Inet | Family::Ipv4 | Family::Ipv6, object, removed, .. } => {
            damage.foreign |= matches!((object, removed), (Object::Chain, _) | (Object::Rule, true));
        }
        Heard::Made { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consequence(family: Family, table: &str, object: Object, removed: bool, by: u32) -> (bool, bool, bool) {
        let mut damage = Damage::default();
        note(&Heard::Made { family, table: table.into(), object, removed, by }, "ours", 7, &mut damage);
        (damage.rules, damage.user_table, damage.foreign)
    }

    #[test]
    fn who_keeps_undoing_repairs_waits_longer() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert_eq!(pace.earliest(now), now, "the first is at once");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pace.took(now);
            pauses.push((pace.earliest(now) - now).as_millis());
            now = pace.earliest(now);
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 640, 640]);
        now += CALM;
        assert_eq!(pace.earliest(now), now);
    }

    #[test]
    fn own_changes_and_those_of_other_engines_call_for_nothing() {
        let nothing = (false, false, false);
        assert_eq!(consequence(Family::Inet, "ours", Object::Table, true, 7), nothing);
        assert_eq!(consequence(Family::Inet, "ours", Object::Element, true, 8), (true, false, false));
        assert_eq!(consequence(Family::Ipv4, "ours", Object::Element, true, 8), nothing);
        // Two engines that repaired everything at each other's changes would never come to rest.
        for removed in [false, true] {
            assert_eq!(consequence(Family::Inet, "theirs", Object::Element, removed, 8), nothing);
            assert_eq!(consequence(Family::Inet, "theirs", Object::Set, removed, 8), nothing);
        }
        assert_eq!(consequence(Family::Ipv6, "filter", Object::Chain, false, 8), (false, false, true));
        assert_eq!(consequence(Family::Ipv4, "filter", Object::Rule, true, 8), (false, false, true));
        assert_eq!(consequence(Family::Netdev, "x", Object::Chain, false, 8), nothing);
        assert_eq!(consequence(Family::Inet, USER_TABLE, Object::Table, true, 8), (false, true, false));
        assert_eq!(consequence(Family::Inet, USER_TABLE, Object::Rule, true, 8), nothing);
    }
}
