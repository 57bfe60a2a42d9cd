//! `docker pull`: from a registry into the store, told step by step in Docker's words.

use std::sync::{Arc, Mutex, PoisonError};

use distribution::{Credentials, LayerStatus, Progress, PullRequest};
use docker_types::auth::{AuthConfig, AuthResponse};
use docker_types::message::JsonMessage;
use store::model::Descriptor;
use types::Reference;

use super::Images;
use super::content::signed;
use super::guard::Gate;
use super::sink::Sink;
use super::telling::{Teller, telling};
use crate::AnyStream;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::facade::PullOptions;

impl From<distribution::Error> for Error {
    fn from(source: distribution::Error) -> Self {
        Self::new(source.kind(), source.to_string())
    }
}

impl Images {
    /// Pull, telling of it: one image, or with a repository alone every tag of it. A client that leaves
    /// stops the pull; what was not whole is removed.
    ///
    /// # Errors
    /// What fails before there is anything to tell; later failures are the stream's last message.
    pub(crate) async fn pull(inner: &Arc<Inner>, options: PullOptions) -> Result<AnyStream<JsonMessage>> {
        let reference: Reference = options.reference.parse().map_err(|e| fail!(Invalid, "{e}"))?;
        let inner = Arc::clone(inner);
        telling(async move |teller: Teller| {
            let references = match reference.digest() {
                Some(digest) => vec![reference.with_digest(*digest)],
                None if options.all_tags && reference.is_name_only() => tags(&inner, &reference, &options).await?,
                None => vec![reference.with_default_tag()],
            };
            for reference in references {
                pull(&inner, reference, options.clone(), &teller).await?;
            }
            Ok(())
        })
        .await
    }

    /// Check credentials with their registry.
    ///
    /// # Errors
    /// Unauthorized when the registry does not take them.
    pub(crate) async fn login(&self, auth: AuthConfig) -> Result<AuthResponse> {
        let server = auth.server_address.clone();
        let login = self.client.login(&server, &credentials(auth)).await?;
        Ok(AuthResponse { status: "Login Succeeded".into(), identity_token: login.identity_token.unwrap_or_default() })
    }
}

/// Every tag of a repository at its registry.
async fn tags(inner: &Arc<Inner>, repository: &Reference, options: &PullOptions) -> Result<Vec<Reference>> {
    let auth = options.auth.clone().map(credentials);
    let tags = inner.images.client.tags(repository, auth.as_ref()).await?;
    if tags.is_empty() {
        return Err(fail!(NotFound, "repository {} has no tags", repository.familiar_name()));
    }
    let named = |tag: &String| repository.clone().with_tag(tag).map_err(|e| fail!(Invalid, "{e}"));
    tags.iter().map(named).collect()
}

pub(super) fn credentials(auth: AuthConfig) -> Credentials {
    let mut credentials = Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    };
    if credentials.username.is_empty()
        && let Some((username, password)) = docker_types::auth::decode_basic(&auth.auth)
    {
        (credentials.username, credentials.password) = (username, password);
    }
    credentials
}

async fn pull(inner: &Arc<Inner>, reference: Reference, options: PullOptions, teller: &Teller) -> Result<()> {
    let images = &inner.images;
    let (told, warned) = (teller.clone(), teller.clone());
    let progress = move |step| tell(&told, step);
    let credentials = options.auth.map(credentials);
    let say = move |words| warned.say(JsonMessage::status(words));
    let guard = Arc::new(Gate::open(inner, &reference, credentials.clone(), say)?);
    let gate = {
        let mut pulls = images.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        pulls.retain(|_, gate| gate.strong_count() > 0);
        let known = pulls.get(&reference.to_string()).and_then(std::sync::Weak::upgrade);
        known.unwrap_or_else(|| {
            let gate = Arc::new(tokio::sync::Mutex::new(()));
            pulls.insert(reference.to_string(), Arc::downgrade(&gate));
            gate
        })
    };
    // A second pull of the same name waits here and then finds everything in place.
    let _alone = gate.lock().await;
    let current = images.index().get(&reference.to_string()).map(|entry| entry.record.target.digest);
    let ingest = Arc::new(images.store.ingest());
    // Who wants compressed layers kept wants them whole.
    let relatives = if inner.config.compact.is_some() { images.relatives(&reference) } else { Vec::new() };
    let sink = Sink::new(Arc::clone(&ingest), Arc::clone(&images.verified)).behind(&guard).related(relatives);
    let sink = Arc::new(sink);
    let request = PullRequest { reference: reference.clone(), platform: options.platform, credentials, current };
    // The last words wait until the image has its name.
    let ending = Arc::new(Mutex::new(Vec::new()));
    let (held, progress) = (Arc::clone(&ending), Arc::new(progress));
    let tell = Arc::clone(&progress);
    let pulled = images
        .client
        .pull(&request, Arc::clone(&sink), move |step| match step {
            Progress::Digest(_) | Progress::Downloaded(_) | Progress::UpToDate(_) => {
                held.lock().unwrap_or_else(PoisonError::into_inner).push(step);
            }
            step => tell(step),
        })
        .await?;
    let layers = pulled.layers;
    inner.blocking("check an image's layers", move || Ok(sink.check(&layers)?)).await?;
    let trust = guard.recorded().unwrap_or_default();
    let target = Descriptor::new(pulled.target.media_type.clone(), pulled.target.digest, pulled.target.size);
    let image = Images::admit(inner, ingest, target, vec![reference.clone()], ("pull", trust)).await?;
    images.publish(inner, "pull", &reference.familiar(), &reference.familiar_name(), Some(&image));
    std::mem::take(&mut *ending.lock().unwrap_or_else(PoisonError::into_inner))
        .into_iter()
        .for_each(|step| progress(step));
    Ok(())
}

fn tell(teller: &Teller, progress: Progress) {
    let (id, words) = progress.words();
    match (progress, id) {
        (Progress::Layer { status: LayerStatus::Downloading { current, total }, .. }, Some(id))
        | (Progress::Layer { status: LayerStatus::Extracting { current, total }, .. }, Some(id)) => {
            teller.figure(JsonMessage::progress(id, words, signed(current), signed(total)));
        }
        (Progress::Layer { .. }, Some(id)) => teller.say(JsonMessage::part(id, words)),
        (_, id) => teller.say(JsonMessage { id: id.unwrap_or_default(), ..JsonMessage::status(words) }),
    }
}
