//! What a build takes files from: the client's directory, a repository, an archive or a Dockerfile at an address, what another
//! build makes; and contexts by name (`--build-context`), which may be images too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use buildkit::wire::llb::Definition;
use dockerfile::AddSource;
use dockerfile::ignore::Ignore;
use store::model::Image;
use sys::path::Root;
use types::{Digest, Kind, Platform, Reference};

use super::{MAX_DOCKERFILE, files, parse_ignore, read};
use crate::convert::{self, ContextSource, LocalSource, OtherSource};
use crate::error::{Error, Result};
use crate::job::{self, Job};
use crate::solve::parse_layout;

/// Bytes that tell an archive from a Dockerfile.
const HEAD: u64 = 64 << 10;
/// What is at an address is called this.
const FETCHED: &str = "context";
/// Most contexts of one build.
const MAX_CONTEXTS: usize = 1000;

/// The contexts of a build.
pub(super) struct Contexts {
    /// What COPY takes files from.
    pub(super) main: ContextSource,
    /// Where the Dockerfile is.
    pub(super) dockerfile: ContextSource,
    /// Its path there.
    pub(super) filename: String,
    /// By name.
    pub(super) named: BTreeMap<String, Named>,
}

/// A context by its name.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) source: ContextSource,
    /// The image that it is.
    pub(super) image: Option<String>,
    /// The configuration of what another build makes.
    pub(super) config: Option<Arc<Image>>,
    /// The OCI layout that it is in: its name at the client, and the digest.
    pub(super) layout: Option<(String, Digest)>,
}

fn local(name: &str) -> ContextSource {
    ContextSource::Local(LocalSource { name: name.to_owned(), ..LocalSource::default() })
}

impl Contexts {
    /// Those that the options name.
    ///
    /// # Errors
    /// What is not known; an address that cannot be read; nobody answers there.
    pub(super) async fn read(
        job: &Arc<Job>,
        attrs: &HashMap<String, String>,
        inputs: &HashMap<String, Definition>,
    ) -> Result<Self> {
        let text = |key: &str| attrs.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let (main_key, file_key) = (text("contextkey").unwrap_or("context"), text("dockerfilekey"));
        let mut filename = text("filename").unwrap_or("Dockerfile").to_owned();
        let mut main = local(main_key);
        let mut dockerfile = None;
        if let Some(made) = inputs.get(main_key) {
            main = ContextSource::Made(made.clone());
        } else if let Some(address) = text("context") {
            main = match AddSource::of(address) {
                AddSource::Git => ContextSource::Other(repository(address)?),
                AddSource::Http => fetched(job, address, &mut filename).await?,
                AddSource::Local => {
                    let text = format!("the build context \"{address}\" is neither a repository nor an address");
                    return Err(Error::new(Kind::Invalid, text));
                }
            };
            dockerfile = Some(main.clone());
        }
        let key = file_key.unwrap_or("dockerfile");
        if let Some(made) = inputs.get(key) {
            dockerfile = Some(ContextSource::Made(made.clone()));
        } else if file_key.is_some() {
            dockerfile = Some(local(key));
        }
        let dockerfile = dockerfile.unwrap_or_else(|| local(key));
        let named = named(job, attrs, inputs).await?;
        Ok(Self { main, dockerfile, filename, named })
    }

    /// Those for one platform, under every name that an instruction may have for them.
    pub(super) fn for_platform(&self, platform: &Platform) -> BTreeMap<String, Named> {
        let mut found = BTreeMap::new();
        let own = format!("::{platform}");
        // A context for the platform alone comes after, and over, that for all.
        let general = self.named.iter().filter(|(name, _)| !name.contains("::"));
        let special = self.named.iter().filter_map(|(name, named)| Some((name.strip_suffix(&own)?, named)));
        for (name, named) in general.map(|(name, named)| (name.as_str(), named)).chain(special) {
            found.insert(name.to_owned(), named.clone());
            if let Ok(reference) = Reference::parse(name).map(Reference::with_default_tag) {
                found.insert(reference.familiar(), named.clone());
            }
        }
        found
    }
}

async fn named(
    job: &Arc<Job>,
    attrs: &HashMap<String, String>,
    inputs: &HashMap<String, Definition>,
) -> Result<BTreeMap<String, Named>> {
    let mut named = BTreeMap::new();
    let asked: BTreeSet<_> =
        attrs.iter().filter_map(|(key, value)| Some((key.strip_prefix("context:")?, value.as_str()))).collect();
    if asked.len() > MAX_CONTEXTS {
        return Err(Error::new(Kind::Invalid, format!("more than {MAX_CONTEXTS} named contexts")));
    }
    for (name, value) in asked {
        let invalid = |why: &str| Error::new(Kind::Invalid, format!("the named context {name}={value}: {why}"));
        let (mut image, mut config, mut layout) = (None, None, None);
        let source = match value.split_once(':') {
            Some(("docker-image", rest)) => {
                let reference = Reference::parse(rest.trim_start_matches('/'));
                let reference = reference.map_err(|e| invalid(&e.to_string()))?.with_default_tag().to_string();
                image = Some(reference.clone());
                let identifier = format!("docker-image://{reference}");
                ContextSource::Other(OtherSource { identifier, ..OtherSource::default() })
            }
            Some(("local", rest)) => {
                let rest = rest.trim_start_matches('/');
                let ignore = ignore_of(job, rest).await?;
                ContextSource::Local(LocalSource {
                    name: rest.to_owned(),
                    exclude: ignore.map(|ignore| ignore.texts().to_vec()).unwrap_or_default(),
                    session: job.build.session.clone().unwrap_or_default(),
                    shared_key_hint: rest.to_owned(),
                    ..LocalSource::default()
                })
            }
            Some(("input", rest)) => {
                let made = inputs.get(rest).ok_or_else(|| invalid("there is no such input"))?;
                config = match attrs.get(&format!("input-metadata:{rest}")) {
                    Some(metadata) => metadata_config(metadata).map_err(|why| invalid(&why))?,
                    None => None,
                };
                ContextSource::Made(made.clone())
            }
            Some(("oci-layout", rest)) => {
                let (store, digest) = parse_layout(rest.trim_start_matches('/'))?;
                let session = job.build.session.clone().unwrap_or_default();
                let attrs = [("oci.store".to_owned(), store.clone()), ("oci.session".to_owned(), session)];
                let identifier = format!("oci-layout://{name}@{digest}");
                layout = Some((store, digest));
                ContextSource::Other(OtherSource { identifier, attrs: attrs.into(), archive: None })
            }
            _ => match AddSource::of(value) {
                AddSource::Git => ContextSource::Other(repository(value)?),
                AddSource::Http => fetched(job, value, &mut String::new()).await?,
                AddSource::Local => return Err(invalid("it is no image, directory, repository or address")),
            },
        };
        named.insert(name.to_owned(), Named { source, image, config, layout });
    }
    Ok(named)
}

/// The image's configuration in what is said of an input.
fn metadata_config(text: &str) -> std::result::Result<Option<Arc<Image>>, String> {
    use base64::Engine as _;
    let metadata: HashMap<String, String> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let Some(encoded) = metadata.get(crate::export::CONFIG) else { return Ok(None) };
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|e| e.to_string())?;
    Image::parse(&bytes).map(|image| Some(Arc::new(image))).map_err(|e| e.to_string())
}

/// What a directory of the client leaves out.
async fn ignore_of(job: &Arc<Job>, name: &str) -> Result<Option<Ignore>> {
    let names = [".dockerignore".to_owned()];
    let shown = format!("[context {name}] load .dockerignore");
    let root = files(job, name, &names, &format!("{name}-dockerignore"), &shown).await?;
    match read(&root, ".dockerignore", 0, MAX_DOCKERFILE) {
        Ok(content) => parse_ignore(&content).map(Some),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn repository(address: &str) -> Result<OtherSource> {
    convert::context_repository(address).map_err(|error| Error::new(Kind::Invalid, error.to_string()))
}

/// What is at an address: an archive of a context, or a Dockerfile.
async fn fetched(job: &Arc<Job>, address: &str, filename: &mut String) -> Result<ContextSource> {
    let attrs = BTreeMap::from([("http.filename".to_owned(), FETCHED.to_owned())]);
    let mut other = OtherSource { identifier: address.to_owned(), attrs, archive: None };
    let root = tree(job, &ContextSource::Other(other.clone()), "[internal] load remote build context").await?;
    let head = read(&root, FETCHED, 0, HEAD)?;
    if crate::file::looks_like_archive(&head) {
        other.archive = Some(FETCHED.to_owned());
    } else {
        FETCHED.clone_into(filename);
    }
    Ok(ContextSource::Other(other))
}

/// The files of a context that is not the client's.
pub(super) async fn tree(job: &Arc<Job>, context: &ContextSource, shown: &str) -> Result<Root> {
    let definition = match context {
        ContextSource::Local(local) => {
            return Err(Error::new(Kind::Internal, format!("the directory {} is the client's", local.name)));
        }
        ContextSource::Other(other) => {
            let made = convert::context_definition(other, &Platform::host(), shown);
            made.map_err(|error| Error::new(Kind::Invalid, error.to_string()))?
        }
        ContextSource::Made(definition) => definition.clone(),
    };
    let tree = job.tree(&job::Reference::read(definition)?).await?;
    let shared = Arc::clone(&job.build.shared);
    let read = tokio::task::spawn_blocking(move || tree.read(shared.host.store()));
    read.await.map_err(|e| Error::io("reading was interrupted", e))?
}
