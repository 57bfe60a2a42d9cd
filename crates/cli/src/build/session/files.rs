//! Files that the builder asks for by the name of a directory and patterns.

use buildkit::server::Messages;
use buildkit::wire::packet::Packet;
use sys::path::Root;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use transfer::Filter;

use super::{Offer, list, messages, pump};
use crate::term::output::warn;

pub(super) fn send(offer: &Offer, request: Request<Streaming<Packet>>) -> Result<Response<Messages<Packet>>, Status> {
    let metadata = request.metadata();
    let name = list(metadata, "dir-name").into_iter().next().unwrap_or_default();
    let Some(directory) = offer.directories.get(&name) else {
        return Err(Status::not_found(format!("no access allowed to dir {name:?}")));
    };
    let failed = |error: &dyn std::fmt::Display| Status::unknown(format!("{}: {error}", directory.display()));
    let root = Root::open(directory).map_err(|error| failed(&error))?;
    let [include, exclude, follow] =
        ["include-patterns", "exclude-patterns", "followpaths"].map(|key| list(metadata, key));
    let filter = Filter::new(&root, &include, &exclude, &follow).map_err(|error| failed(&error))?;
    let requests = pump(request.into_inner());
    let (packets, outgoing) = mpsc::channel(256);
    let debug = offer.debug;
    tokio::task::spawn_blocking(move || {
        let sent = transfer::send(&root, &filter, &packets, requests);
        if debug {
            warn(&match sent {
                Ok(()) => format!("debug: the directory {name} was sent"),
                Err(error) => format!("debug: sending the directory {name}: {error}"),
            });
        }
    });
    Ok(Response::new(messages(outgoing)))
}
