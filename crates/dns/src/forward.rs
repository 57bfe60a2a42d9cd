//! Questions on their way to upstreams: whom to ask, when to ask again, and which answer counts.
//!
//! One question is asked once, however many clients wait for it. It goes to the servers in turn, a second apart, and the
//! first answer of use wins; a server that says it failed makes the next one's turn come at once. Each server is asked
//! from a socket of its own, connected to it, so that its port is random as the id is. A cut answer is fetched again by
//! TCP. Every question ends at its deadline. The caller owns sockets and clock and does what [`Action`]s say.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::query::Query;
use crate::rcode;
use crate::reply::{Reply, Unusable};

/// Most questions on their way at a time.
pub const MAX_PENDING: usize = 2048;
/// Most clients that wait for one question.
pub const MAX_WAITERS: usize = 64;
/// Servers asked of one list.
const MAX_SERVERS: usize = 3;
/// Times a question is sent.
const MAX_TRIES: usize = 4;
/// Foreign answers after which a socket is given up: somebody guesses.
const MAX_FOREIGN: u8 = 16;

/// Milliseconds of a clock that does not jump.
pub type Time = u64;
/// Until the next server is asked.
const PATIENCE: Time = 1000;
/// For an answer by TCP.
const STREAM_PATIENCE: Time = 2000;
/// From the first try to the last answer: clients ask again after 5 s (resolv.conf(5)).
const DEADLINE: Time = 4500;
/// How long a server that did not answer is asked last.
const PENALTY: Time = 10_000;
/// Most servers remembered as silent.
const MAX_SILENT: usize = 64;

/// Names a socket: the question and which of its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Socket {
    pub question: u64,
    pub attempt: u8,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action<W> {
    /// Send from the socket of that name, which is opened and connected to the server if it is not there.
    Datagram { socket: Socket, server: SocketAddr, bytes: Vec<u8> },
    /// Close the socket of that name and connect by TCP in its place, then send.
    Stream { socket: Socket, server: SocketAddr, bytes: Vec<u8> },
    /// Close all sockets of a question: it has ended.
    Close { question: u64 },
    /// Tell those who wait.
    Answer { key: Box<[u8]>, waiters: Vec<W>, outcome: Outcome },
}

/// How a question ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    Reply(Rc<Reply>),
    /// No server gave an answer of use.
    Failed,
}

/// Why a question is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Too many are on their way, or wait for the same.
    Full,
    /// There is nobody to ask.
    NoServer,
}

/// The questions on their way; `W` is what the caller knows a waiting client by.
pub struct Forwarder<W> {
    questions: HashMap<u64, Question<W>>,
    by_key: HashMap<Box<[u8]>, u64>,
    due: BTreeSet<(Time, u64)>,
    /// Servers that did not answer, and until when they are asked last.
    silent: HashMap<SocketAddr, Time>,
    next: u64,
    random: fn() -> u16,
}

struct Question<W> {
    key: Box<[u8]>,
    query: Query,
    servers: Vec<SocketAddr>,
    attempts: Vec<Attempt>,
    tries: usize,
    due: Time,
    deadline: Time,
    waiters: Vec<W>,
    /// A cut answer, should no whole one come.
    cut: Option<Rc<Reply>>,
}

struct Attempt {
    server: SocketAddr,
    id: u16,
    foreign: u8,
    /// Without an extension, which the server did not know.
    plain: bool,
    stream: bool,
    over: bool,
}

impl<W> Forwarder<W> {
    /// `random` gives ids that nobody can guess.
    #[must_use]
    pub fn new(random: fn() -> u16) -> Self {
        Self {
            questions: HashMap::new(),
            by_key: HashMap::new(),
            due: BTreeSet::new(),
            silent: HashMap::new(),
            next: 0,
            random,
        }
    }

    /// Questions on their way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// When [`Forwarder::on_time`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes a question of `waiter`, or lets it wait for the same one that is on its way.
    ///
    /// # Errors
    /// [`NotTaken`]; the waiter is to be told at once.
    pub fn ask(
        &mut self,
        now: Time,
        key: &[u8],
        query: &Query,
        servers: &[SocketAddr],
        waiter: W,
        actions: &mut Vec<Action<W>>,
    ) -> Result<(), NotTaken> {
        if let Some(question) = self.by_key.get(key).and_then(|number| self.questions.get_mut(number)) {
            if question.waiters.len() >= MAX_WAITERS {
                return Err(NotTaken::Full);
            }
            question.waiters.push(waiter);
            return Ok(());
        }
        if self.questions.len() >= MAX_PENDING {
            return Err(NotTaken::Full);
        }
        let mut ordered: Vec<SocketAddr> = servers.iter().copied().take(MAX_SERVERS).collect();
        if ordered.is_empty() {
            return Err(NotTaken::NoServer);
        }
        // Those that did not answer lately come last, in their order.
        ordered.sort_by_key(|server| self.silent.get(server).is_some_and(|until| *until > now));
        self.next += 1;
        let number = self.next;
        self.by_key.insert(key.into(), number);
        self.due.insert((now, number));
        self.questions.insert(
            number,
            Question {
                key: key.into(),
                query: *query,
                servers: ordered,
                attempts: Vec::with_capacity(1),
                tries: 0,
                due: now,
                deadline: now + DEADLINE,
                waiters: vec![waiter],
                cut: None,
            },
        );
        self.advance(now, number, actions);
        Ok(())
    }

    /// Something came on a socket. `stream`: by TCP, the whole message without its length.
    pub fn on_message(&mut self, now: Time, socket: Socket, bytes: &[u8], actions: &mut Vec<Action<W>>) {
        let Some(question) = self.questions.get_mut(&socket.question) else { return };
        let Some(attempt) = question.attempts.get_mut(usize::from(socket.attempt)).filter(|attempt| !attempt.over)
        else {
            return;
        };
        let reply = match Reply::parse(bytes, &question.query, attempt.id) {
            Ok(reply) => reply,
            Err(Unusable::Foreign) => {
                attempt.foreign += 1;
                if attempt.foreign >= MAX_FOREIGN || attempt.stream {
                    self.on_failure(now, socket, actions);
                }
                return;
            }
            Err(Unusable::Broken) => return self.on_failure(now, socket, actions),
        };
        self.silent.remove(&attempt.server);
        match reply.rcode() {
            // Old servers do not know the extension (RFC 6891 7).
            rcode::FORMERR | rcode::NOTIMP if !attempt.plain && !attempt.stream => {
                attempt.plain = true;
                attempt.id = (self.random)();
                let bytes = question.query.compose(attempt.id, true);
                actions.push(Action::Datagram { socket, server: attempt.server, bytes });
            }
            rcode::SERVFAIL | rcode::REFUSED | rcode::FORMERR | rcode::NOTIMP => self.on_failure(now, socket, actions),
            _ if reply.is_truncated() && !attempt.stream => {
                question.cut = Some(Rc::new(reply));
                attempt.stream = true;
                attempt.id = (self.random)();
                let message = question.query.compose(attempt.id, attempt.plain);
                let length = u16::try_from(message.len()).unwrap_or(0).to_be_bytes();
                let bytes = [&length[..], &message].concat();
                actions.push(Action::Stream { socket, server: attempt.server, bytes });
                let due = now + STREAM_PATIENCE;
                question.deadline = question.deadline.max(due);
                self.set_due(socket.question, due);
            }
            _ => {
                let reply = Rc::new(reply);
                self.finish(socket.question, Outcome::Reply(reply), actions);
            }
        }
    }

    /// A socket could not be opened, was refused, or its server made no sense.
    pub fn on_failure(&mut self, now: Time, socket: Socket, actions: &mut Vec<Action<W>>) {
        let Some(question) = self.questions.get_mut(&socket.question) else { return };
        let Some(attempt) = question.attempts.get_mut(usize::from(socket.attempt)).filter(|attempt| !attempt.over)
        else {
            return;
        };
        attempt.over = true;
        if attempt.stream {
            // What fits is better than nothing.
            if let Some(cut) = question.cut.take() {
                return self.finish(socket.question, Outcome::Reply(cut), actions);
            }
        }
        if question.attempts.len() < question.servers.len() {
            self.advance(now, socket.question, actions);
        } else if question.attempts.iter().all(|attempt| attempt.over) {
            self.give_up(socket.question, actions);
        }
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Time, actions: &mut Vec<Action<W>>) {
        while let Some((at, number)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            let Some(question) = self.questions.get(&number) else {
                self.due.remove(&(at, number));
                continue;
            };
            // Whoever was asked last has not answered.
            if let Some(late) = question.attempts.last().filter(|attempt| !attempt.over && !attempt.stream) {
                if self.silent.len() >= MAX_SILENT {
                    self.silent.clear();
                }
                self.silent.insert(late.server, now + PENALTY);
            }
            if now >= question.deadline {
                self.give_up(number, actions);
            } else {
                self.advance(now, number, actions);
            }
        }
    }

    /// Asks the next server, or waits for the deadline when all have been asked often enough.
    fn advance(&mut self, now: Time, number: u64, actions: &mut Vec<Action<W>>) {
        let Some(question) = self.questions.get_mut(&number) else { return };
        let deadline = question.deadline;
        let count = question.servers.len();
        let mut asked = false;
        // By TCP there is one try, and nobody else is asked meanwhile.
        let busy = question.attempts.iter().any(|attempt| attempt.stream && !attempt.over);
        while !busy && !asked && question.tries < MAX_TRIES {
            let at = question.tries % count;
            question.tries += 1;
            let Some(server) = question.servers.get(at).copied() else { break };
            let Ok(index) = u8::try_from(at) else { break };
            let socket = Socket { question: number, attempt: index };
            match question.attempts.get(at) {
                Some(attempt) if attempt.over => {}
                Some(attempt) => {
                    let bytes = question.query.compose(attempt.id, attempt.plain);
                    actions.push(Action::Datagram { socket, server, bytes });
                    asked = true;
                }
                None => {
                    let id = (self.random)();
                    let bytes = question.query.compose(id, false);
                    question.attempts.push(Attempt {
                        server,
                        id,
                        foreign: 0,
                        plain: false,
                        stream: false,
                        over: false,
                    });
                    actions.push(Action::Datagram { socket, server, bytes });
                    asked = true;
                }
            }
        }
        if !asked && !busy && question.attempts.iter().all(|attempt| attempt.over) {
            return self.give_up(number, actions);
        }
        let due = if asked { (now + PATIENCE).min(deadline) } else { deadline };
        self.set_due(number, due);
    }

    fn set_due(&mut self, number: u64, due: Time) {
        if let Some(question) = self.questions.get_mut(&number) {
            self.due.remove(&(question.due, number));
            question.due = due;
            self.due.insert((due, number));
        }
    }

    fn give_up(&mut self, number: u64, actions: &mut Vec<Action<W>>) {
        let cut = self.questions.get_mut(&number).and_then(|question| question.cut.take());
        self.finish(number, cut.map_or(Outcome::Failed, Outcome::Reply), actions);
    }

    fn finish(&mut self, number: u64, outcome: Outcome, actions: &mut Vec<Action<W>>) {
        let Some(question) = self.questions.remove(&number) else { return };
        self.by_key.remove(&question.key);
        self.due.remove(&(question.due, number));
        actions.push(Action::Close { question: number });
        actions.push(Action::Answer { key: question.key, waiters: question.waiters, outcome });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Key;
    use crate::flag;
    use crate::reply::tests::{question, upstream};

    fn server(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 53))
    }

    fn start(servers: &[SocketAddr]) -> (Forwarder<u32>, Query, Vec<Action<u32>>) {
        let mut forwarder = Forwarder::new(|| 0x1234);
        let query = question("www.example.com", None);
        let mut actions = Vec::new();
        forwarder.ask(0, Key::new(0, &query).bytes(), &query, servers, 1, &mut actions).unwrap();
        (forwarder, query, actions)
    }

    fn sent(actions: &mut Vec<Action<u32>>) -> (Socket, SocketAddr, Vec<u8>) {
        assert_eq!(actions.len(), 1, "{actions:?}");
        match actions.pop() {
            Some(Action::Datagram { socket, server, bytes }) => (socket, server, bytes),
            other => panic!("{other:?}"),
        }
    }

    fn answered(actions: &mut Vec<Action<u32>>) -> (Vec<u32>, Outcome) {
        let answer = actions.pop();
        assert!(matches!(actions.pop(), Some(Action::Close { .. })) && actions.is_empty());
        match answer {
            Some(Action::Answer { waiters, outcome, .. }) => (waiters, outcome),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_question_for_all_who_ask_it() {
        let (mut forwarder, query, mut actions) = start(&[server(1)]);
        let (socket, to, bytes) = sent(&mut actions);
        assert_eq!((to, bytes), (server(1), query.compose(0x1234, false)));
        let key = Key::new(0, &query);
        for waiter in 2..=64 {
            forwarder.ask(1, key.bytes(), &query, &[server(1)], waiter, &mut actions).unwrap();
        }
        assert_eq!(forwarder.ask(1, key.bytes(), &query, &[server(1)], 65, &mut actions), Err(NotTaken::Full));
        assert!(actions.is_empty());
        forwarder.on_message(5, socket, &upstream(&query, 0x1234, 60, 1, 0), &mut actions);
        let (waiters, outcome) = answered(&mut actions);
        assert!(matches!(outcome, Outcome::Reply(_)) && waiters.len() == 64);
        assert!(forwarder.is_empty() && forwarder.next_due().is_none() && forwarder.by_key.is_empty());
        // What comes later meets nobody.
        forwarder.on_message(6, socket, &upstream(&query, 0x1234, 60, 1, 0), &mut actions);
        assert!(actions.is_empty());
    }

    #[test]
    fn silence_brings_the_next_server_and_the_end() {
        let (mut forwarder, query, mut actions) = start(&[server(1), server(2)]);
        let mut asked = vec![sent(&mut actions).1];
        while let Some(due) = forwarder.next_due() {
            forwarder.on_time(due, &mut actions);
            if due == DEADLINE {
                break;
            }
            if !actions.is_empty() {
                asked.push(sent(&mut actions).1);
            }
        }
        assert_eq!(asked, [server(1), server(2), server(1), server(2)]);
        assert!(matches!(answered(&mut actions).1, Outcome::Failed));
        // A third one, which has not been silent, is asked before them now.
        let servers = [server(1), server(2), server(3)];
        forwarder.ask(5000, b"k", &query, &servers, 1, &mut actions).unwrap();
        assert_eq!(sent(&mut actions).1, server(3));
        forwarder.ask(50_000, b"l", &query, &servers, 1, &mut actions).unwrap();
        assert_eq!(sent(&mut actions).1, server(1));
    }

    #[test]
    fn a_late_answer_of_the_first_server_counts() {
        let (mut forwarder, query, mut actions) = start(&[server(1), server(2)]);
        let (first, ..) = sent(&mut actions);
        forwarder.on_time(1000, &mut actions);
        assert_eq!(sent(&mut actions).1, server(2));
        forwarder.on_message(1500, first, &upstream(&query, 0x1234, 60, 1, 0), &mut actions);
        assert!(matches!(answered(&mut actions).1, Outcome::Reply(_)));
    }

    #[test]
    fn failures_bring_the_next_server_at_once() {
        let (mut forwarder, query, mut actions) = start(&[server(1), server(2), server(3)]);
        let (first, ..) = sent(&mut actions);
        forwarder.on_failure(1, first, &mut actions);
        let (second, to, _) = sent(&mut actions);
        assert_eq!(to, server(2));
        forwarder.on_message(2, second, &upstream(&query, 0x1234, 60, 0, rcode::SERVFAIL), &mut actions);
        let (third, to, _) = sent(&mut actions);
        assert_eq!(to, server(3));
        forwarder.on_message(3, third, &upstream(&query, 0x1234, 60, 0, rcode::REFUSED), &mut actions);
        assert!(matches!(answered(&mut actions).1, Outcome::Failed));
    }

    #[test]
    fn cut_answers_are_fetched_by_tcp() {
        let (mut forwarder, query, mut actions) = start(&[server(1)]);
        let (socket, ..) = sent(&mut actions);
        let mut cut = upstream(&query, 0x1234, 60, 1, 0);
        cut[2] |= flag::TRUNCATED.to_be_bytes()[0];
        forwarder.on_message(10, socket, &cut, &mut actions);
        match actions.pop() {
            Some(Action::Stream { socket: stream, server: to, bytes }) => {
                assert_eq!((stream, to), (socket, server(1)));
                assert_eq!(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])), bytes.len() - 2);
            }
            other => panic!("{other:?}"),
        }
        forwarder.on_message(20, socket, &upstream(&query, 0x1234, 60, 100, 0), &mut actions);
        match answered(&mut actions).1 {
            Outcome::Reply(reply) => assert!(!reply.is_truncated() && reply.ttl() == Some(60)),
            Outcome::Failed => panic!("no answer"),
        }
        // When that fails, the cut one is what there is.
        let (mut forwarder, _, mut actions) = start(&[server(1)]);
        let (socket, ..) = sent(&mut actions);
        forwarder.on_message(10, socket, &cut, &mut actions);
        actions.clear();
        forwarder.on_failure(20, socket, &mut actions);
        match answered(&mut actions).1 {
            Outcome::Reply(reply) => assert!(reply.is_truncated()),
            Outcome::Failed => panic!("no answer"),
        }
        let (mut forwarder, _, mut actions) = start(&[server(1)]);
        let (socket, ..) = sent(&mut actions);
        forwarder.on_message(10, socket, &cut, &mut actions);
        actions.clear();
        while let Some(due) = forwarder.next_due() {
            forwarder.on_time(due, &mut actions);
        }
        assert!(matches!(answered(&mut actions).1, Outcome::Reply(_)));
    }

    #[test]
    fn servers_without_the_extension_are_asked_without() {
        let (mut forwarder, query, mut actions) = start(&[server(1)]);
        let (socket, ..) = sent(&mut actions);
        let refusal = [0x12, 0x34, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        forwarder.on_message(1, socket, &refusal, &mut actions);
        let (again, _, bytes) = sent(&mut actions);
        assert_eq!((again, bytes), (socket, query.compose(0x1234, true)));
        forwarder.on_message(2, socket, &refusal, &mut actions);
        assert!(matches!(answered(&mut actions).1, Outcome::Failed));
    }

    #[test]
    fn guessers_get_few_tries() {
        let (mut forwarder, query, mut actions) = start(&[server(1)]);
        let (socket, ..) = sent(&mut actions);
        for n in 0..15 {
            forwarder.on_message(1, socket, &upstream(&query, n, 60, 1, 0), &mut actions);
            assert!(actions.is_empty());
        }
        forwarder.on_message(1, socket, &upstream(&query, 99, 60, 1, 0), &mut actions);
        assert!(matches!(answered(&mut actions).1, Outcome::Failed));
    }

    #[test]
    fn the_number_on_their_way_is_bounded() {
        let (mut forwarder, query, mut actions) = start(&[server(1)]);
        for n in 1..MAX_PENDING {
            forwarder.ask(0, &n.to_be_bytes(), &query, &[server(1)], 1, &mut actions).unwrap();
        }
        assert_eq!(forwarder.ask(0, b"more", &query, &[server(1)], 1, &mut actions), Err(NotTaken::Full));
        assert_eq!(forwarder.ask(0, b"none", &query, &[], 1, &mut actions), Err(NotTaken::Full));
        let (mut forwarder, ..) = start(&[server(1)]);
        assert_eq!(forwarder.ask(0, b"none", &query, &[], 1, &mut actions), Err(NotTaken::NoServer));
        for at in 0..=5 {
            forwarder.on_time(at * 1000, &mut actions);
        }
        assert!(forwarder.is_empty() && forwarder.due.is_empty());
    }
}
