//! What a client is sent: a file as a stream of bytes, or a tree by the packets of `receive`, this being the sender.
//!
//! The client is hostile: it may ask for what it was not told of, or for the same again; neither gets it anything.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use buildkit::wire::filesync::BytesMessage;
use buildkit::wire::packet::{Packet, PacketType};
use buildkit::wire::stat::Stat;
use futures_util::StreamExt;
use prost::Message;
use rustix::fs::{FileType, Mode, OFlags};
use store::tree::Descent;
use sys::path::{Dir, Root};
use tokio::sync::mpsc;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::{Request, Status};
use transfer::go;
use types::Kind;

use super::Client;
use crate::error::{Error, Result};
use crate::waiting;

const METHOD: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// Which of the outputs of a build it is.
const OUTPUT: &str = "buildkit-attachable-exporter-id";
/// What is said of a file goes before its names.
const ABOUT: &str = "exporter-md-";
/// Bytes of one message.
pub(super) const CHUNK: usize = 128 * 1024;
/// Messages on their way.
pub(super) const QUEUE: usize = 16;
/// Longest path, as the kernel has it.
const MAX_PATH: usize = 4095;

/// A tree to be sent.
#[derive(Debug)]
pub struct Sent {
    /// It.
    pub root: Root,
    /// The directory of the client's that it goes into, below the one for the output.
    pub below: Option<String>,
    /// Files beside it, in the top directory, in place of what has their names.
    pub extra: std::collections::BTreeMap<String, Vec<u8>>,
    /// The time of everything, in seconds since 1970, instead of its own.
    pub mtime: Option<i64>,
}

impl Client {
    /// Sends a file: what `write` writes. `about` is told before.
    ///
    /// # Errors
    /// That of `write`; the client has left, or cannot store the file.
    pub async fn send_file(
        &self,
        output: usize,
        about: &HashMap<String, String>,
        write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (to, messages) = mpsc::channel::<BytesMessage>(QUEUE);
        let mut request = Request::new(stream(messages));
        describe(request.metadata_mut(), output, about)?;
        let sender = to.clone();
        let writing = move || {
            let mut out = std::io::BufWriter::with_capacity(CHUNK, Messages(sender));
            write(&mut out)?;
            out.flush().map_err(|e| Error::io("cannot send a file", e))
        };
        self.exchange::<BytesMessage, BytesMessage>(METHOD, request, to, writing, |_| {}).await
    }

    /// Sends a tree. `moved` is told of bytes as they go.
    ///
    /// # Errors
    /// A file that cannot be read; the client has left, or cannot store the files.
    pub async fn send_tree(&self, output: usize, tree: Sent, moved: impl Fn(u64) + Send + 'static) -> Result<()> {
        let (to, messages) = mpsc::channel::<Packet>(QUEUE);
        // Clients ask while they are still told of files; how often is bounded by what they are told of, below.
        let (asked, questions) = mpsc::unbounded_channel();
        let mut request = Request::new(stream(messages));
        describe(request.metadata_mut(), output, &HashMap::new())?;
        let sender = to.clone();
        let writing = move || {
            Sender { packets: sender, questions, files: Vec::new(), wanted: VecDeque::new() }.send(&tree, &moved)
        };
        let mut count = 0_usize;
        let pass = move |packet| {
            count += 1;
            // Each file once, and a word at the end.
            if count <= super::receive::MAX_ENTRIES {
                let _ = asked.send(packet);
            }
        };
        self.exchange(METHOD, request, to, writing, pass).await
    }

    /// Calls the client while `writing` runs, whose end ends the messages. When that fails the call is broken off, so that
    /// the client does not take what it has for the whole.
    pub(super) async fn exchange<Q, A>(
        &self,
        method: &'static str,
        request: Request<impl futures_util::Stream<Item = Q> + Send + 'static>,
        open: mpsc::Sender<Q>,
        writing: impl FnOnce() -> Result<()> + Send + 'static,
        mut answered: impl FnMut(A) + Send,
    ) -> Result<()>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let writing = waiting::run("sending", writing);
        tokio::pin!(writing);
        let call = async move {
            let mut answers = self.session.stream::<Q, A>(method, request).await?.into_inner();
            while let Some(answer) = answers.next().await {
                answered(answer?);
            }
            // Drops what passes answers on: nothing more is coming.
            Ok::<_, Status>(())
        };
        tokio::pin!(call);
        let mut open = Some(open);
        tokio::select! {
            biased;
            written = &mut writing => {
                let written = written?;
                // Nobody listens any more: the call has the reason.
                let left = open.as_ref().is_some_and(mpsc::Sender::is_closed);
                if written.is_err() && !left {
                    return written;
                }
                open.take();
                call.await.map_err(refused)?;
                written
            }
            ended = &mut call => {
                drop(open);
                let early = || Error::new(Kind::Unavailable, "the client took the output for complete before it was");
                // With its reason, what failed here for want of a client is no news.
                ended.map_err(refused)?;
                writing.await?.map_err(|_| early())
            }
        }
    }
}

fn refused(status: Status) -> Error {
    Error::from(status).context("the client cannot store the output")
}

pub(super) fn stream<M: Send + 'static>(
    messages: mpsc::Receiver<M>,
) -> impl futures_util::Stream<Item = M> + Send + 'static {
    futures_util::stream::unfold(messages, |mut messages| async move {
        messages.recv().await.map(|message| (message, messages))
    })
}

fn describe(metadata: &mut MetadataMap, output: usize, about: &HashMap<String, String>) -> Result<()> {
    let value = |text: &str| MetadataValue::try_from(text).map_err(|e| Error::io("metadata", e));
    metadata.insert(OUTPUT, value(&output.to_string())?);
    for (key, text) in about {
        let key = format!("{ABOUT}{}", key.to_ascii_lowercase());
        let key: MetadataKey<Ascii> = key.parse().map_err(|e| Error::io("metadata", e))?;
        metadata.insert(key, value(text)?);
    }
    Ok(())
}

pub(super) fn gone() -> Error {
    Error::new(Kind::Unavailable, "the client does not take the output any more")
}

/// Bytes as messages.
struct Messages(mpsc::Sender<BytesMessage>);

impl Write for Messages {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let chunk = &data[..data.len().min(CHUNK)];
        let message = BytesMessage { data: chunk.to_vec() };
        self.0.blocking_send(message).map_err(|_| std::io::Error::new(std::io::ErrorKind::BrokenPipe, gone()))?;
        Ok(chunk.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is sent when it is asked for, by its number.
enum Offered {
    /// Nothing: it was sent already, or is no file.
    Nothing,
    /// A file of the tree.
    File(PathBuf),
    /// One of those beside it.
    Extra(String),
}

struct Sender {
    packets: mpsc::Sender<Packet>,
    questions: mpsc::UnboundedReceiver<Packet>,
    files: Vec<Offered>,
    wanted: VecDeque<u32>,
}

struct Level {
    /// Path in the tree, with its slash.
    prefix: Vec<u8>,
    /// Names still to do, last first.
    pending: Vec<std::ffi::OsString>,
}

impl Sender {
    fn send(mut self, tree: &Sent, moved: &dyn Fn(u64)) -> Result<()> {
        let mut links = HashMap::new();
        if let Some(below) = &tree.below {
            let mod_time = tree.mtime.map_or(0, nanoseconds);
            let stat = Stat { path: below.clone(), mode: go::DIRECTORY | 0o755, mod_time, ..Stat::default() };
            self.offer(stat, Offered::Nothing)?;
        }
        let dir = tree.root.dir().map_err(|e| Error::io("cannot open the result", e))?;
        let mut first = level(&dir, Vec::new())?;
        first.pending.extend(tree.extra.keys().map(std::ffi::OsString::from));
        first.pending.sort_by(|a, b| b.cmp(a));
        first.pending.dedup();
        let fail = |e| Error::io("cannot walk the result", e);
        let mut descent = Descent::new(dir, first).map_err(fail)?;
        while let Some((dir, top)) = descent.top() {
            let Some(name) = top.pending.pop() else {
                descent.pop().map_err(fail)?;
                continue;
            };
            let path = [&top.prefix[..], name.as_bytes()].concat();
            if top.prefix.is_empty()
                && let Some((name, bytes)) = name.to_str().and_then(|name| tree.extra.get_key_value(name))
            {
                let mod_time = tree.mtime.map_or(0, nanoseconds);
                let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
                let path = shown(tree, &path)?;
                self.offer(
                    Stat { path, mode: 0o644, size, mod_time, ..Stat::default() },
                    Offered::Extra(name.clone()),
                )?;
                continue;
            }
            if let Some(below) = self.member(tree, dir, &name, &path, &mut links)? {
                let next = level(&below, [&path[..], b"/"].concat())?;
                descent.push(below, next).map_err(fail)?;
            }
        }
        // An empty one ends the list.
        self.packet(Packet { r#type: PacketType::Stat as i32, ..Packet::default() })?;
        self.answer(tree, moved)
    }

    /// Tells of one name; the answer is a directory to go into.
    fn member(
        &mut self,
        tree: &Sent,
        dir: &Dir,
        name: &OsStr,
        path: &[u8],
        links: &mut HashMap<(u64, u64), String>,
    ) -> Result<Option<Dir>> {
        let fail = |e: std::io::Error| Error::io(format_args!("cannot send \"{}\"", String::from_utf8_lossy(path)), e);
        let handle = dir.open_handle(name).map_err(fail)?;
        let found = rustix::fs::fstat(&handle).map_err(|e| fail(e.into()))?;
        let mut stat = Stat {
            path: shown(tree, path)?,
            mode: transfer::mode_of(found.st_mode),
            uid: found.st_uid,
            gid: found.st_gid,
            mod_time: tree.mtime.map_or_else(
                || nanoseconds(found.st_mtime).saturating_add(i64::try_from(found.st_mtime_nsec).unwrap_or(0)),
                nanoseconds,
            ),
            ..Stat::default()
        };
        let kind = FileType::from_raw_mode(found.st_mode);
        match kind {
            FileType::Symlink => {
                let target = sys::path::read_link(&handle).map_err(fail)?;
                stat.linkname = text(target.as_bytes())?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                stat.devmajor = i64::from(rustix::fs::major(found.st_rdev));
                stat.devminor = i64::from(rustix::fs::minor(found.st_rdev));
            }
            FileType::RegularFile => stat.size = found.st_size,
            FileType::Directory | FileType::Fifo => {}
            // Sockets are of no use without their process.
            _ => return Ok(None),
        }
        let mut offered = Offered::Nothing;
        if kind == FileType::RegularFile {
            let known = (found.st_nlink > 1).then_some((found.st_dev, found.st_ino));
            match known.and_then(|known| links.get(&known)) {
                Some(first) => {
                    stat.linkname.clone_from(first);
                    stat.size = 0;
                }
                None => {
                    links.extend(known.map(|known| (known, stat.path.clone())));
                    offered = Offered::File(OsStr::from_bytes(path).into());
                }
            }
            let file = sys::path::reopen_file(&handle).map_err(fail)?;
            stat.xattrs = attributes(&file).map_err(fail)?;
        }
        self.offer(stat, offered)?;
        if kind == FileType::Directory { Dir::from_handle(&handle).map(Some).map_err(fail) } else { Ok(None) }
    }

    fn offer(&mut self, stat: Stat, offered: Offered) -> Result<()> {
        self.files.push(offered);
        self.packet(Packet { r#type: PacketType::Stat as i32, stat: Some(stat), ..Packet::default() })?;
        while let Ok(question) = self.questions.try_recv() {
            self.asked(question)?;
        }
        Ok(())
    }

    fn packet(&self, packet: Packet) -> Result<()> {
        self.packets.blocking_send(packet).map_err(|_| gone())
    }

    /// Takes a question; says whether it was the last.
    fn asked(&mut self, question: Packet) -> Result<bool> {
        match PacketType::try_from(question.r#type) {
            Ok(PacketType::Req) => {
                self.wanted.push_back(question.id);
                Ok(false)
            }
            Ok(PacketType::Fin) => Ok(true),
            Ok(PacketType::Err) => {
                let text: String = String::from_utf8_lossy(&question.data).chars().take(1000).collect();
                Err(Error::new(Kind::Internal, format!("the client cannot store the output: {text}")))
            }
            _ => Err(Error::new(Kind::Invalid, "the client speaks out of turn while it is sent the output")),
        }
    }

    /// Sends what is asked for, until the client has all it wants.
    fn answer(&mut self, tree: &Sent, moved: &dyn Fn(u64)) -> Result<()> {
        loop {
            while let Some(id) = self.wanted.pop_front() {
                self.content(tree, id, moved)?;
            }
            let question = self.questions.blocking_recv().ok_or_else(gone)?;
            if self.asked(question)? {
                return self.packet(Packet { r#type: PacketType::Fin as i32, ..Packet::default() });
            }
        }
    }

    fn content(&mut self, tree: &Sent, id: u32, moved: &dyn Fn(u64)) -> Result<()> {
        let place = usize::try_from(id).ok().and_then(|id| self.files.get_mut(id));
        let offered = place.map_or(Offered::Nothing, |place| std::mem::replace(place, Offered::Nothing));
        let data = |data: Vec<u8>| Packet { r#type: PacketType::Data as i32, id, data, ..Packet::default() };
        match offered {
            Offered::Nothing => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!("the client asks for file {id}, which it was not offered"),
                ));
            }
            Offered::Extra(name) => {
                for chunk in tree.extra.get(&name).map(Vec::as_slice).unwrap_or_default().chunks(CHUNK) {
                    self.packet(data(chunk.to_vec()))?;
                    moved(chunk.len() as u64);
                }
            }
            Offered::File(path) => {
                let fail = |e: std::io::Error| Error::io(format_args!("cannot send \"{}\"", path.display()), e);
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let at = Path::new("/").join(&path);
                let mut file = std::fs::File::from(tree.root.open_at(&at, flags, Mode::empty()).map_err(fail)?);
                loop {
                    let mut chunk = vec![0; CHUNK];
                    let read = match file.read(&mut chunk) {
                        Ok(0) => break,
                        Ok(read) => read,
                        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                        Err(e) => return Err(fail(e)),
                    };
                    chunk.truncate(read);
                    self.packet(data(chunk))?;
                    moved(read as u64);
                }
            }
        }
        self.packet(data(Vec::new()))
    }
}

fn nanoseconds(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000)
}

fn level(dir: &Dir, prefix: Vec<u8>) -> Result<Level> {
    let list = dir.list().map_err(|e| {
        Error::io(format_args!("cannot list \"{}\" of the result", String::from_utf8_lossy(&prefix)), e)
    })?;
    let mut pending: Vec<_> = list.into_iter().map(|entry| entry.name).collect();
    pending.sort_by(|a, b| b.cmp(a));
    Ok(Level { prefix, pending })
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| {
        let name = String::from_utf8_lossy(bytes).into_owned();
        Error::new(
            Kind::Unsupported,
            format!("\"{name}\" is no UTF-8 and cannot be sent as a file: take the output of type tar"),
        )
    })
}

/// The path as the client has it.
fn shown(tree: &Sent, path: &[u8]) -> Result<String> {
    let path = text(path)?;
    let path = tree.below.as_ref().map_or(path.clone(), |below| format!("{below}/{path}"));
    if path.len() > MAX_PATH {
        return Err(Error::new(Kind::Invalid, format!("\"{path}\" is too long a path")));
    }
    Ok(path)
}

/// What a layer keeps of a file's attributes.
fn attributes(file: &impl std::os::fd::AsFd) -> std::io::Result<HashMap<String, Vec<u8>>> {
    let all = sys::path::xattrs(file)?;
    let kept = all.into_iter().filter_map(|(key, value)| {
        let key = key.into_string().ok()?;
        let kept = key == "security.capability" || key.starts_with("user.") && !key.starts_with("user.overlay.");
        kept.then_some((key, value))
    });
    Ok(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::super::pool::Held;
    use super::super::receive::receive;
    use super::*;

    fn tree(path: &Path) -> Sent {
        std::fs::create_dir_all(path.join("d/e")).unwrap();
        std::fs::write(path.join("d/f"), "file").unwrap();
        std::fs::write(path.join("d.x"), vec![7; CHUNK + 1]).unwrap();
        std::fs::hard_link(path.join("d/f"), path.join("z")).unwrap();
        std::os::unix::fs::symlink("d/f", path.join("link")).unwrap();
        let extra = [("about.json".to_owned(), b"{}".to_vec())].into();
        Sent { root: Root::open(path).unwrap(), below: None, extra, mtime: Some(1000) }
    }

    fn sender(
        tree: Sent,
    ) -> (mpsc::Receiver<Packet>, mpsc::UnboundedSender<Packet>, std::thread::JoinHandle<Result<()>>) {
        let (packets, told) = mpsc::channel(1000);
        let (asked, questions) = mpsc::unbounded_channel();
        let sender = Sender { packets, questions, files: Vec::new(), wanted: VecDeque::new() };
        (told, asked, std::thread::spawn(move || sender.send(&tree, &|_| {})))
    }

    #[test]
    fn what_is_sent_is_what_the_receiver_of_this_protocol_takes() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut told, asked, sending) = sender(tree(from.path()));
        let (incoming, packets) = mpsc::channel(1000);
        let (requests, mut questions) = mpsc::channel(1000);
        let forward = std::thread::spawn(move || {
            while let Some(packet) = told.blocking_recv() {
                if incoming.blocking_send(packet).is_err() {
                    return;
                }
            }
        });
        let ask = std::thread::spawn(move || {
            while let Some(question) = questions.blocking_recv() {
                let _ = asked.send(question);
            }
        });
        let held = Held::at(to.path());
        let (_, counts) = receive(held, packets, &requests, &|_| {}).unwrap();
        drop(requests);
        sending.join().unwrap().unwrap();
        forward.join().unwrap();
        ask.join().unwrap();
        assert_eq!(counts.files, 3);
        assert_eq!(std::fs::read(to.path().join("z")).unwrap(), b"file");
        assert_eq!(std::fs::read(to.path().join("d.x")).unwrap().len(), CHUNK + 1);
        assert_eq!(std::fs::read(to.path().join("about.json")).unwrap(), b"{}");
        assert_eq!(std::fs::read_link(to.path().join("link")).unwrap(), Path::new("d/f"));
        let stat = |name: &str| rustix::fs::stat(to.path().join(name)).unwrap();
        assert_eq!((stat("z").st_ino, stat("z").st_nlink), (stat("d/f").st_ino, 2));
        assert_eq!((stat("d/f").st_mtime, stat("d").st_mtime), (1000, 1000));
    }

    #[test]
    fn hostile_receivers_get_nothing() {
        let question = |kind: PacketType, id, data: &[u8]| Packet {
            r#type: kind as i32,
            id,
            data: data.to_vec(),
            ..Packet::default()
        };
        for (questions, words) in [
            (vec![question(PacketType::Req, 4_000_000_000, b"")], "was not offered"),
            // A directory, and a file twice.
            (vec![question(PacketType::Req, 1, b"")], "was not offered"),
            (vec![question(PacketType::Req, 0, b""), question(PacketType::Req, 0, b"")], "was not offered"),
            (vec![question(PacketType::Err, 0, b"disk full")], "disk full"),
            (vec![question(PacketType::Data, 0, b"x")], "out of turn"),
            (vec![], "does not take the output"),
        ] {
            let from = tempfile::tempdir().unwrap();
            let (_told, asked, sending) = sender(tree(from.path()));
            for question in questions {
                asked.send(question).unwrap();
            }
            drop(asked);
            let error = sending.join().unwrap().unwrap_err().to_string();
            assert!(error.contains(words), "{error}: {words}");
        }
    }
}
