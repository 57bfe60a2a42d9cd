//! Files at addresses: `ADD https://…`, contexts that are somewhere else, and what a client reads from its standard input,
//! which is an address of its session.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use buildkit::wire::{llb, upload};
use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};
use tonic::Request;
use types::{Digest, Kind};

use super::fetched::Fetched;
use super::{Build, Outcome, Vertex};
use crate::error::{Error, Result};
use crate::host::Body;
use crate::tree::{Directory, Files};

/// Host of addresses that a client's session answers.
const SESSION: &str = "http://buildkit-session/";

/// Attributes that are known.
const ATTRS: [&str; 5] = ["http.checksum", "http.filename", "http.perm", "http.uid", "http.gid"];

/// How a file is to be.
struct Wanted<'a> {
    address: &'a str,
    checksum: Option<Digest>,
    filename: String,
    mode: u32,
    owner: (u32, u32),
}

impl<'a> Wanted<'a> {
    fn read(address: &'a str, attrs: &HashMap<String, String>) -> Result<Self> {
        let attr = |name: &str| attrs.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let invalid = |name: &str, why: &dyn std::fmt::Display| Error::new(Kind::Invalid, format!("{name}: {why}"));
        if let Some(name) = attrs.keys().find(|name| !ATTRS.contains(&name.as_str())) {
            return Err(Error::new(Kind::Unsupported, format!("the attribute {name} of {address} is not supported")));
        }
        let number = |name: &str| match attr(name) {
            None => Ok(None),
            Some(text) => text.parse::<u32>().map(Some).map_err(|e| invalid(name, &e)),
        };
        let mode = match attr("http.perm") {
            None => 0o600,
            Some(text) => {
                let digits = text.trim_start_matches("0o");
                u32::from_str_radix(digits, 8).map_err(|e| invalid("http.perm", &e))? & 0o7777
            }
        };
        let checksum = attr("http.checksum").map(str::parse::<Digest>).transpose();
        let checksum = checksum.map_err(|e| invalid("http.checksum", &e))?;
        let path = address.split_once("://").map_or("", |(_, rest)| rest).split(['?', '#']).next().unwrap_or_default();
        let last = path.split_once('/').and_then(|(_, path)| path.rsplit('/').next());
        let filename = attr("http.filename").or(last).filter(|name| is_name(name)).unwrap_or("download").to_owned();
        let owner = (number("http.uid")?.unwrap_or(0), number("http.gid")?.unwrap_or(0));
        Ok(Self { address, checksum, filename, mode, owner })
    }

    fn check(&self, digest: &str) -> Result<()> {
        match self.checksum.filter(|sum| sum.to_string() != digest) {
            None => Ok(()),
            Some(sum) => {
                let text = format!("digest mismatch: {} has {digest}, and {sum} is expected", self.address);
                Err(Error::new(Kind::Invalid, text))
            }
        }
    }

    fn key(&self, digest: &str) -> String {
        let Self { filename, mode, owner, .. } = self;
        format!("http {digest} {mode:o} {}:{} {filename}", owner.0, owner.1)
    }
}

/// Whether something is the name of a file.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() < 256 && !matches!(name, "." | "..") && !name.contains(['/', '\0'])
}

impl Build {
    /// The file at an address.
    pub(super) async fn http(self: &Arc<Self>, vertex: &Vertex, source: &llb::SourceOp) -> Result<Outcome> {
        let wanted = Wanted::read(&source.identifier, &source.attrs)?;
        if let Some(path) = source.identifier.strip_prefix(SESSION) {
            let body = self.uploaded(path).await?;
            return Ok(self.save(vertex, &wanted, body, None).await?.into());
        }
        let fetched = &self.shared.fetched;
        let place = wanted.key(wanted.address);
        let _turn = fetched.turn(&place).await;
        let known = fetched.find(&place);
        let expected = |known: &&Fetched| wanted.checksum.is_some_and(|sum| sum.to_string() == known.digest);
        // What has the checksum is what is at the address.
        if let Some(known) = known.as_ref().filter(expected) {
            return Ok(Outcome { cached: true, ..known.clone().into() });
        }
        let mut headers = vec![("accept-encoding", "identity".to_owned())];
        if let Some(known) = &known {
            let (tag, modified) = known.validators.clone();
            headers.extend(tag.map(|tag| ("if-none-match", tag)));
            headers.extend(modified.map(|modified| ("if-modified-since", modified)));
        }
        let answer = self.shared.host.fetch(wanted.address, headers).await?;
        match (answer.status, known) {
            (304, Some(known)) => {
                wanted.check(&known.digest)?;
                Ok(Outcome { cached: true, ..known.into() })
            }
            (200, _) => {
                let modified = answer.modified.clone();
                let mut saved = self.save(vertex, &wanted, answer.body, modified.as_deref()).await?;
                saved.validators = (answer.etag, modified);
                fetched.put(place, saved.clone());
                Ok(saved.into())
            }
            (status, _) => {
                let kind = if status == 404 { Kind::NotFound } else { Kind::Invalid };
                Err(Error::new(kind, format!("failed to fetch {}: the answer's status is {status}", wanted.address)))
            }
        }
    }

    /// What the client has for a path of its session.
    async fn uploaded(&self, path: &str) -> Result<Body> {
        let session = self.session.as_ref().ok_or_else(|| Error::new(Kind::Invalid, "no session to read from"))?;
        let client = self.shared.sessions.get(session).await?;
        let none = futures_util::stream::pending::<upload::BytesMessage>();
        let mut request = Request::new(none);
        let value = format!("/{path}").parse().map_err(|_| Error::new(Kind::Invalid, "a path that is no text"))?;
        request.metadata_mut().insert("urlpath", value);
        let answer = client
            .session()
            .stream::<upload::BytesMessage, upload::BytesMessage>("/moby.upload.v1.Upload/Pull", request)
            .await
            .map_err(|status| Error::from(status).context("cannot read what the client sends"))?;
        let data = answer.into_inner().map(|message| Ok(Bytes::from(message.map_err(Error::from)?.data)));
        Ok(Box::pin(data))
    }

    async fn save(
        &self,
        vertex: &Vertex,
        wanted: &Wanted<'_>,
        mut body: Body,
        modified: Option<&str>,
    ) -> Result<Fetched> {
        let files = Directory::new(&self.shared.work)?;
        let path = files.path().join(&wanted.filename);
        let failed = |e: std::io::Error| Error::io(format_args!("cannot save {}", wanted.address), e);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let told = self.transfer(vertex, &wanted.filename);
        let mut hasher = Sha256::new();
        while let Some(data) = body.next().await {
            let data = data.map_err(|e| e.context(format_args!("failed to fetch {}", wanted.address)))?;
            hasher.update(&data);
            told.add(data.len() as u64);
            // Some hundred kilobytes into the page cache, as they come.
            file.write_all(&data).map_err(failed)?;
        }
        let digest = format!("sha256:{}", faster_hex::hex_string(&hasher.finalize()));
        wanted.check(&digest)?;
        let time = modified.and_then(|text| jiff::fmt::rfc2822::parse(text).ok()).map(std::time::SystemTime::from);
        let times = std::fs::FileTimes::new().set_modified(time.unwrap_or(std::time::UNIX_EPOCH));
        file.set_times(times).map_err(failed)?;
        std::os::unix::fs::fchown(&file, Some(wanted.owner.0), Some(wanted.owner.1)).map_err(failed)?;
        let mode = rustix::fs::Mode::from_raw_mode(wanted.mode);
        rustix::fs::fchmod(&file, mode).map_err(|e| failed(e.into()))?;
        told.end();
        Ok(Fetched { files: Arc::new(files), key: wanted.key(&digest), digest, validators: (None, None) })
    }
}
