//! An image in the store, at registries, or both.

use std::collections::HashMap;
use std::sync::Arc;

use types::{Kind, Reference};

use super::Request;
use super::assemble::{Assembled, Options, Target, assemble, blocking};
use super::attrs::Attrs;
use super::step::{Part, Step};
use crate::error::{Error, Result};
use crate::host::Push;
use crate::job::{Job, Solved};

/// An image that is asked for.
#[derive(Debug)]
pub(super) struct Output {
    options: Options,
    /// It is kept here.
    store: bool,
    push: bool,
    /// At registries it gets no tag.
    by_digest: bool,
}

impl Output {
    /// Reads what is asked for; `push` is what happens without a word about it.
    ///
    /// # Errors
    /// Options that are not known or make no sense.
    pub(super) fn read(mut attrs: Attrs, push: bool) -> Result<Self> {
        let options = Options::take(&mut attrs, false)?;
        let push = attrs.flag("push")?.unwrap_or(push);
        let by_digest = attrs.flag("push-by-digest")?.unwrap_or(false);
        let store = attrs.flag("store")?.unwrap_or(true);
        // The store unpacks what it has, and knows every image by its digest as well, with each of its names.
        for already in ["unpack", "name-canonical"] {
            attrs.flag(already)?;
        }
        attrs.take("dangling-name-prefix");
        if attrs.flag("registry.insecure")? == Some(true) {
            return Err(attrs.unsupported("registry.insecure", "name the registry in the daemon's insecure-registries"));
        }
        attrs.finish()?;
        let invalid = |text: &str| Err(Error::new(Kind::Invalid, text));
        if push && options.names.is_empty() {
            return invalid("an image is pushed by its name, and has none: give it one with -t, or name=NAME");
        }
        if by_digest && !push {
            return invalid("push-by-digest needs push=true");
        }
        Ok(Self { options, store, push, by_digest })
    }

    /// Makes it.
    ///
    /// # Errors
    /// As [`super::Outputs::export`].
    pub(super) async fn export(
        &self,
        job: &Arc<Job>,
        solved: &Solved,
        request: &Request,
    ) -> Result<HashMap<String, String>> {
        // Steps first: their time is not this output's.
        super::result_trees(job, solved).await?;
        let step = Step::begin(job, "exporting to image");
        let exported = self.exported(job, solved, request, &step).await;
        if !self.store
            && let Err(error) = job.build.shared.host.collect().await
        {
            tracing::warn!(%error, "what was only made to be pushed stays until something else is removed");
        }
        step.end(exported.as_ref().err());
        exported
    }

    async fn exported(
        &self,
        job: &Arc<Job>,
        solved: &Solved,
        request: &Request,
        step: &Step<'_>,
    ) -> Result<HashMap<String, String>> {
        let layers = step.part("exporting layers");
        // What is here and at a registry is one image with one digest.
        let target = if self.store { Target::store(job, self.push) } else { Target::apart(job) };
        let made = assemble(job, solved, &self.options, request, &target).await?;
        layers.end();
        step.part(&format!("exporting manifest {}", made.target.digest)).end();
        if self.store {
            self.admit(job, &made, step).await?;
        } else {
            // Results that other builds can use go to the store in the same sync.
            job.build.keep().await;
            let (own, build) = (Arc::clone(&target.sources.own), Arc::clone(&target.sources.build));
            blocking(move || {
                build.commit()?;
                Ok(own.commit()?)
            })
            .await?;
        }
        if self.push {
            self.push(job, &made, &target, step).await?;
        }
        let mut answer = answer(&made)?;
        let shown = self.options.shown();
        if !shown.is_empty() {
            answer.insert("image.name".to_owned(), shown);
        }
        Ok(answer)
    }

    async fn admit(&self, job: &Arc<Job>, made: &Assembled, step: &Step<'_>) -> Result<()> {
        let names: &[Reference] = if self.by_digest { &[] } else { &self.options.names };
        let naming: Vec<_> = names.iter().map(|name| step.part(&format!("naming to {name}"))).collect();
        // What the image does not have, steps on the way to it, goes to the disk when nobody waits.
        let (ingest, target) = (Arc::clone(job.build.ingest()), made.target.clone());
        let ingest = Arc::new(blocking(move || Ok(ingest.split(&target)?)).await?);
        job.build.shared.host.admit(ingest, made.target.clone(), names.to_vec()).await?;
        naming.into_iter().for_each(Part::end);
        Ok(())
    }

    async fn push(&self, job: &Arc<Job>, made: &Assembled, target: &Target, step: &Step<'_>) -> Result<()> {
        for name in &self.options.names {
            let part = step.part(&format!("pushing {}", name.familiar()));
            let push = Push {
                ingest: Arc::clone(&target.sources.own),
                target: made.target.clone(),
                reference: name.clone(),
                by_digest: self.by_digest,
                session: job.build.session.clone(),
                moved: Box::new(part.counter()),
                cancel: job.build.cancel.clone(),
            };
            let pushed = job.build.shared.host.push(push).await;
            pushed.map_err(|error| error.context(format_args!("failed to push {}", name.familiar())))?;
            part.end();
        }
        Ok(())
    }
}

/// What a client is told of an image.
pub(super) fn answer(made: &Assembled) -> Result<HashMap<String, String>> {
    use base64::Engine as _;
    let descriptor = serde_json::to_vec(&made.target).map_err(|e| Error::io("cannot encode a descriptor", e))?;
    Ok(HashMap::from([
        ("containerimage.digest".to_owned(), made.target.digest.to_string()),
        ("containerimage.descriptor".to_owned(), base64::engine::general_purpose::STANDARD.encode(descriptor)),
    ]))
}
