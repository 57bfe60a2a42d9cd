//! The sending side of the protocol (fsutil's packets): everything is listed in order, and what the receiver asks for is sent.

use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use buildkit::wire::packet::{Packet, PacketType};
use rustix::fs::FileType;
use sys::path::Root;
use tokio::sync::mpsc::{Receiver, Sender};

use crate::stat::Links;
use crate::{Error, Filter, Result, walk};

/// Bytes of a file in one packet.
const CHUNK: usize = 128 * 1024;

/// Sends what the filter takes of a directory. Blocking; to be called outside of the threads of an asynchronous runtime.
///
/// # Errors
/// Files that cannot be read, of which the receiver is told; that the receiver has left.
pub fn send(root: &Root, filter: &Filter, packets: &Sender<Packet>, requests: Receiver<Packet>) -> Result<()> {
    let files = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let listing = scope.spawn(|| list(root, filter, packets, &files));
        let answered = answer(root, packets, requests, &files);
        let listed = listing.join().unwrap_or(Err(Error::Left));
        listed.and(answered)
    })
}

/// Tells the receiver why it ends here.
fn fail(packets: &Sender<Packet>, error: Error) -> Error {
    if !matches!(error, Error::Left) {
        let text = error.to_string().into_bytes();
        // One that has left needs no reason.
        let _ = packets.blocking_send(Packet { r#type: PacketType::Err as i32, data: text, ..Packet::default() });
    }
    error
}

/// Paths of regular files by their numbers, which are those of the list.
type Files = Mutex<Vec<Option<String>>>;

fn list(root: &Root, filter: &Filter, packets: &Sender<Packet>, files: &Files) -> Result<()> {
    let mut links = Links::default();
    let listed = walk(root, filter, &mut |found| {
        let stat = links.describe(found)?;
        let content = FileType::from_raw_mode(found.stat.st_mode) == FileType::RegularFile && stat.linkname.is_empty();
        // Before the receiver can ask for it.
        files.lock().unwrap_or_else(PoisonError::into_inner).push(content.then(|| stat.path.clone()));
        put(packets, Packet { r#type: PacketType::Stat as i32, stat: Some(stat), ..Packet::default() })
    });
    // The receiver ends with an error, and so do its requests.
    listed.map_err(|error| fail(packets, error))?;
    put(packets, Packet { r#type: PacketType::Stat as i32, ..Packet::default() })
}

fn answer(root: &Root, packets: &Sender<Packet>, mut requests: Receiver<Packet>, files: &Files) -> Result<()> {
    while let Some(request) = requests.blocking_recv() {
        match PacketType::try_from(request.r#type) {
            Ok(PacketType::Req) => {
                let path = {
                    let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
                    usize::try_from(request.id).ok().and_then(|id| files.get_mut(id)).and_then(Option::take)
                };
                let unknown = || Error::Io {
                    path: format!("file {}", request.id),
                    source: std::io::ErrorKind::InvalidInput.into(),
                };
                let sent = path.ok_or_else(unknown).and_then(|path| content(root, &path, request.id, packets));
                sent.map_err(|error| fail(packets, error))?;
            }
            Ok(PacketType::Fin) => return put(packets, Packet { r#type: PacketType::Fin as i32, ..Packet::default() }),
            _ => return Err(Error::Left),
        }
    }
    Err(Error::Left)
}

fn content(root: &Root, path: &str, id: u32, packets: &Sender<Packet>) -> Result<()> {
    let data = |data: Vec<u8>| Packet { r#type: PacketType::Data as i32, id, data, ..Packet::default() };
    let opened = root.parent(Path::new("/").join(path)).and_then(|(dir, name)| dir.open_file(&name));
    let mut file = match opened {
        Ok(file) => std::fs::File::from(file),
        // Removed since it was listed: what arrives is empty, and it is listed anew the next time.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return put(packets, data(Vec::new())),
        Err(e) => return Err(Error::io(path)(e)),
    };
    loop {
        let mut buffer = vec![0; CHUNK];
        let read = match file.read(&mut buffer) {
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::io(path)(e)),
        };
        buffer.truncate(read);
        put(packets, data(buffer))?;
        if read == 0 {
            return Ok(());
        }
    }
}

fn put(packets: &Sender<Packet>, packet: Packet) -> Result<()> {
    packets.blocking_send(packet).map_err(|_| Error::Left)
}
