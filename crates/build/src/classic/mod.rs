//! Builds by the protocol from before BuildKit: the context comes as an archive in the request, and what happens is told in
//! lines of JSON. The solver is the same.

mod context;
mod narrate;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use buildkit::wire::control::{Exporter, SolveRequest};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use prost::Message as _;
use tokio::sync::mpsc;
use types::Kind;

use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::service;
use crate::solve::Given;
use narrate::Narrator;

/// What a client asks for.
#[derive(Clone, Default)]
pub struct Classic {
    /// The build's own name; one is made without it.
    pub id: String,
    /// Options of the front end, by its names.
    pub attrs: HashMap<String, String>,
    /// The Dockerfile's path in the context.
    pub dockerfile: String,
    /// Names of the image.
    pub names: Vec<String>,
    /// The id alone is told.
    pub quiet: bool,
    /// The session of a client that speaks BuildKit's protocol otherwise: it sends the context, and is told BuildKit's way.
    pub session: Option<String>,
    /// The context comes from elsewhere (`attrs` say from where), not in the request.
    pub remote: bool,
    /// What the build may do beyond the ordinary.
    pub entitlements: Vec<String>,
    /// User and password by registry.
    pub credentials: BTreeMap<String, (String, String)>,
}

impl std::fmt::Debug for Classic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classic").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Something to tell the client.
#[derive(Clone, Debug)]
pub enum Said {
    /// Text.
    Text(String),
    /// What BuildKit's own clients are told: an encoded `StatusResponse`.
    Trace(Vec<u8>),
    /// The image's id.
    Image(String),
    /// The build failed.
    Failed(Error),
}

impl Builder {
    /// Carries out a build; what happens is told until its end. A client that does not listen any more ends it.
    pub fn classic<S>(self: &Arc<Self>, asked: Classic, body: S) -> impl Stream<Item = Said> + Send + use<S>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let (said, told) = mpsc::channel(64);
        let builder = Arc::clone(self);
        tokio::spawn(async move {
            let listener = said.clone();
            let failed = tokio::select! {
                done = carry_out(&builder, asked, body, &said) => done.err(),
                () = listener.closed() => None,
            };
            if let Some(error) = failed {
                drop(said.send(Said::Failed(error)).await);
            }
        });
        futures_util::stream::unfold(told, |mut told| async move { told.recv().await.map(|said| (said, told)) })
    }
}

async fn carry_out<S>(builder: &Arc<Builder>, asked: Classic, body: S, said: &mpsc::Sender<Said>) -> Result<()>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let name = if asked.id.is_empty() { crate::random::name()? } else { asked.id.clone() };
    let mut attrs = asked.attrs;
    let mut given = Given { credentials: asked.credentials, ..Given::default() };
    if asked.session.is_none() && !asked.remote {
        let received = context::receive(builder.shared(), body, &asked.dockerfile).await?;
        given.locals.insert("context".to_owned(), received.context);
        given.locals.insert("dockerfile".to_owned(), received.dockerfile);
        attrs.insert("filename".to_owned(), received.filename);
    } else if !asked.dockerfile.is_empty() {
        attrs.insert("filename".to_owned(), asked.dockerfile);
    }
    let exporter =
        Exporter { r#type: "moby".to_owned(), attrs: HashMap::from([("name".to_owned(), asked.names.join(","))]) };
    let request = SolveRequest {
        r#ref: name.clone(),
        session: asked.session.clone().unwrap_or_default(),
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: attrs,
        exporters: vec![exporter],
        entitlements: asked.entitlements,
        ..SolveRequest::default()
    };
    let solving = service::carry(builder, request, given);
    let telling = tell(builder, &name, asked.session.is_some(), asked.quiet, said);
    let (answer, ()) = tokio::join!(solving, telling);
    let answer = answer?;
    let id = answer.get("containerimage.digest").cloned().unwrap_or_default();
    let send = async |what| said.send(what).await.map_err(|_| Error::cancelled());
    if asked.quiet && asked.session.is_none() {
        return send(Said::Text(format!("{id}\n"))).await;
    }
    send(Said::Image(id.clone())).await?;
    if asked.session.is_none() {
        let short = id.rsplit(':').next().and_then(|hex| hex.get(..12)).unwrap_or_default().to_owned();
        send(Said::Text(format!("Successfully built {short}\n"))).await?;
        let names = answer.get("image.name").map(String::as_str).unwrap_or_default();
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let shown = types::Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar());
            send(Said::Text(format!("Successfully tagged {shown}\n"))).await?;
        }
    }
    Ok(())
}

/// Tells the story of a build until it ends.
async fn tell(builder: &Arc<Builder>, name: &str, trace: bool, quiet: bool, said: &mpsc::Sender<Said>) {
    let Ok(story) = builder.story(name).await else { return };
    let mut messages = story.follow();
    let mut narrator = Narrator::default();
    while let Some(Ok(message)) = messages.next().await {
        if trace {
            if said.send(Said::Trace(message.encode_to_vec())).await.is_err() {
                return;
            }
            continue;
        }
        if quiet {
            continue;
        }
        for text in narrator.take(message) {
            if said.send(Said::Text(text)).await.is_err() {
                return;
            }
        }
    }
    for text in narrator.end() {
        drop(said.send(Said::Text(text)).await);
    }
}

/// A context that cannot be.
fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, format!("invalid build context: {what}"))
}
