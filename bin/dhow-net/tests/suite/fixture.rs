//! A host, containers on it, and what they ask.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dataplane::{Change, Client, Place, Sandbox, SandboxStatus, State, Upstreams};
use domain::base::Message;
use domain::rdata::{A, Aaaa, Ptr};
use types::{ContainerId, Id};

/// For what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Where resolvers listen in their containers.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

pub const A_RECORD: u16 = 1;
pub const PTR_RECORD: u16 = 12;
pub const AAAA_RECORD: u16 = 28;

pub fn id<T: From<Id>>(n: u8) -> T {
    Id::from_bytes([n; 32]).into()
}

/// A host with its process.
pub struct Host {
    netns: OwnedFd,
    dir: tempfile::TempDir,
    child: Option<Child>,
    client: Option<Client>,
}

impl Host {
    /// A host whose process runs; none where no namespace can be made.
    pub fn new() -> Option<Self> {
        let netns = match sys::netns::create_with(sys::loopback::bring_up) {
            Ok((netns, up)) => {
                up.unwrap();
                netns
            }
            Err(error) => {
                eprintln!("skipped: making a network namespace needs root ({error})");
                return None;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let mut host = Self { netns, dir, child: None, client: None };
        host.set_resolv_conf("");
        host.start();
        Some(host)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("net.sock")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("net.log")).unwrap()
    }

    /// Replaces the list of name servers as programs do, by a rename.
    pub fn set_resolv_conf(&self, text: &str) {
        let new = self.dir.path().join("resolv.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.dir.path().join("resolv.conf")).unwrap();
    }

    /// Runs something on the host.
    pub fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        sys::netns::within(&self.netns, body).unwrap()
    }

    pub fn command(&self) -> Command {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("net.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dhow-net"));
        command.arg("--socket").arg(self.socket()).args(["--table", "dhow-test"]);
        command.arg("--resolv-conf").arg(self.dir.path().join("resolv.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// Starts the process and connects to it.
    pub fn start(&mut self) {
        let mut command = self.command();
        let child = self.inside(move || command.spawn().unwrap());
        self.child = Some(child);
        let client = self.connect();
        client.sync(State::default()).unwrap();
        self.client = Some(client);
    }

    /// Another connection to the process.
    pub fn connect(&self) -> Client {
        let start = Instant::now();
        loop {
            if let Some(client) = Client::connect(&self.socket()).unwrap() {
                return client;
            }
            assert!(start.elapsed() < PATIENCE, "nobody listens: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    /// The daemon goes.
    pub fn disconnect(&mut self) {
        self.client = None;
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        self.disconnect();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits for the process to end by itself, with this status.
    pub fn wait(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if start.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the process has not ended");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Memory the process uses, in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Processor time the process has used, in hundredths of a second.
    pub fn cpu(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub fn counts(&self, sandbox: &Container) -> SandboxStatus {
        let status = self.client().status().unwrap();
        status.sandboxes.into_iter().find(|status| status.id == sandbox.id).unwrap()
    }

    pub fn put(&self, changes: Vec<Change>, fds: &[BorrowedFd<'_>]) {
        self.client().batch(changes, fds).unwrap();
    }

    /// Puts a container with its resolver and a place on a network.
    pub fn add(&self, container: &Container, upstreams: Upstreams, place: Place) {
        let sandbox = container.sandbox(upstreams);
        self.put(vec![Change::PutSandbox(sandbox), Change::PutPlace(place)], &container.sockets());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A container's namespace and its resolver's sockets.
pub struct Container {
    pub id: ContainerId,
    netns: OwnedFd,
    datagrams: UdpSocket,
    listener: TcpListener,
    address: SocketAddr,
}

impl Container {
    pub fn new(n: u8) -> Self {
        let (netns, (datagrams, listener)) = sys::netns::create_with(|| {
            sys::loopback::bring_up().unwrap();
            let datagrams = UdpSocket::bind((RESOLVER, 0)).unwrap();
            let listener = TcpListener::bind(datagrams.local_addr().unwrap()).unwrap();
            (datagrams, listener)
        })
        .unwrap();
        let address = datagrams.local_addr().unwrap();
        Self { id: id(n), netns, datagrams, listener, address }
    }

    pub fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.datagrams.as_fd(), self.listener.as_fd()]
    }

    pub fn sandbox(&self, upstreams: Upstreams) -> Sandbox {
        Sandbox { id: self.id, upstreams, links: Vec::new(), ndots_set: false, has_sockets: true }
    }

    pub fn datagrams(&self) -> UdpSocket {
        let address = self.address;
        let socket = sys::netns::within(&self.netns, || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    pub fn stream(&self) -> TcpStream {
        let address = self.address;
        let stream = sys::netns::within(&self.netns, || TcpStream::connect(address).unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Asks and waits for the answer.
    pub fn ask(&self, query: &[u8]) -> Answer {
        let socket = self.datagrams();
        socket.send(query).unwrap();
        let mut buffer = vec![0; 65_535];
        let count = socket.recv(&mut buffer).expect("an answer");
        buffer.truncate(count);
        assert_eq!(buffer[..2], query[..2]);
        Answer(buffer)
    }

    /// The same by TCP.
    pub fn ask_stream(&self, query: &[u8]) -> Answer {
        let mut stream = self.stream();
        stream.write_all(&framed(query)).unwrap();
        read_answer(&mut stream)
    }

    pub fn look(&self, name: &str, qtype: u16) -> Answer {
        self.ask(&query(name, qtype, None))
    }

    /// The addresses of a name.
    pub fn addresses(&self, name: &str, qtype: u16) -> Vec<String> {
        let answer = self.look(name, qtype);
        assert_eq!(answer.rcode(), 0, "{name}");
        answer.addresses()
    }
}

pub fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Answer(answer)
}

pub fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// An answer as it came.
pub struct Answer(pub Vec<u8>);

impl Answer {
    fn message(&self) -> &Message<[u8]> {
        Message::from_slice(&self.0).unwrap()
    }

    pub fn rcode(&self) -> u8 {
        self.0[3] & 0xf
    }

    pub fn is_cut(&self) -> bool {
        self.message().header().tc()
    }

    pub fn addresses(&self) -> Vec<String> {
        let records = self.message().answer().unwrap();
        let v4 = records.limit_to::<A>().map(|record| record.unwrap().data().addr().to_string());
        let v6 = records.limit_to::<Aaaa>().map(|record| record.unwrap().data().addr().to_string());
        v4.chain(v6).collect()
    }

    pub fn pointer(&self) -> Option<String> {
        let record = self.message().answer().unwrap().limit_to::<Ptr<_>>().next()?;
        Some(record.unwrap().data().ptrdname().to_string())
    }

    pub fn ttl(&self) -> u32 {
        self.message().answer().unwrap().next().unwrap().unwrap().ttl().as_secs()
    }

    /// The name in the question, as it was written.
    pub fn asked(&self) -> Vec<u8> {
        let end = 12 + self.0[12..].iter().position(|byte| *byte == 0).unwrap();
        self.0[12..end].to_vec()
    }
}

pub fn query(name: &str, qtype: u16, edns: Option<u16>) -> Vec<u8> {
    let mut out = vec![0x4d, 0x2a, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&qtype.to_be_bytes());
    out.extend_from_slice(&1u16.to_be_bytes());
    if let Some(size) = edns {
        out.extend_from_slice(&[0, 0, 41]);
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&[0; 6]);
    }
    out
}

/// An endpoint of a container on network `network`.
pub fn place(endpoint: u8, network: u8, container: &Container, names: &[&str], addresses: &[&str]) -> Place {
    Place {
        endpoint: id(endpoint),
        network: id(network),
        network_name: format!("net{network}"),
        internal: false,
        sandbox: container.id,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        link: None,
    }
}

pub fn servers(addresses: &[&str]) -> Upstreams {
    Upstreams::List(addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect())
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
