//! An archive on standard input, for the builder to take its context from.

use std::io::Read;

use buildkit::server::Messages;
use buildkit::wire::upload::BytesMessage;
use tonic::{Request, Response, Status, Streaming};

use super::{Offer, messages};

/// Bytes of one message.
const CHUNK: usize = 128 * 1024;

pub(super) fn send(
    offer: &Offer,
    _: &Request<Streaming<BytesMessage>>,
) -> Result<Response<Messages<BytesMessage>>, Status> {
    let archive = offer.archive.lock().map_err(|_| Status::internal("standard input"))?.take();
    let begin = archive.ok_or_else(|| Status::not_found("standard input was read already"))?;
    let (sender, outgoing) = tokio::sync::mpsc::channel(16);
    // A thread of its own: one that waits for standard input may wait for ever, and nobody is to wait for it.
    std::thread::spawn(move || {
        let mut input = begin.as_slice().chain(std::io::stdin().lock());
        loop {
            let mut data = vec![0; CHUNK];
            match input.read(&mut data) {
                Ok(0) => return,
                Ok(count) => {
                    data.truncate(count);
                    if sender.blocking_send(BytesMessage { data }).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return crate::term::output::warn(&format!("reading standard input: {error}")),
            }
        }
    });
    Ok(Response::new(messages(outgoing)))
}
