//! An image at the client's: an archive in the OCI layout, or for `docker load`, or a directory in the OCI layout.

use std::collections::HashMap;
use std::sync::Arc;

use store::image::{Content as _, Form, Saved};
use types::{Kind, Platform};

use super::assemble::{Assembled, Attested, Options, Target, assemble, blocking};
use super::attrs::Attrs;
use super::image::answer;
use super::step::Step;
use super::{Request, client};
use crate::error::{Error, Result};
use crate::job::{Job, Solved};
use crate::session::{Client, output_store};

/// An archive that is asked for.
#[derive(Debug)]
pub(super) struct Output {
    id: usize,
    form: Form,
    /// The client has a content store for it.
    directory: bool,
    options: Options,
}

impl Output {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// Options that are not known or make no sense.
    pub(super) fn read(id: usize, kind: &str, mut attrs: Attrs) -> Result<Self> {
        let form = if kind == "docker" { Form::Docker } else { Form::Oci };
        let options = Options::take(&mut attrs, form == Form::Docker)?;
        let directory = attrs.flag("tar")? == Some(false);
        if directory && form == Form::Docker {
            return Err(attrs.unsupported("tar=false", "a directory is of type oci"));
        }
        // Where the client loads it afterwards.
        attrs.take("context");
        attrs.finish()?;
        Ok(Self { id, form, directory, options })
    }

    /// Makes it and sends it.
    ///
    /// # Errors
    /// As [`super::Outputs::export`].
    pub(super) async fn export(
        &self,
        job: &Arc<Job>,
        solved: &Solved,
        request: &Request,
    ) -> Result<HashMap<String, String>> {
        if self.form == Form::Docker && solved.reference.is_none() && !solved.by_platform.is_empty() {
            return Err(Error::new(
                Kind::Unsupported,
                "an archive of type docker has one platform: take type=oci for several",
            ));
        }
        super::result_trees(job, solved).await?;
        let kind = if self.form == Form::Docker { "docker" } else { "oci" };
        let step = Step::begin(job, &format!("exporting to {kind} image format"));
        let exported = self.exported(job, solved, request, &step).await;
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
        let mut target = Target::apart(job);
        if self.form == Form::Docker {
            if !request.attest.is_empty(false) {
                return Err(Error::new(
                    Kind::Unsupported,
                    "an archive of type docker has no place for attestations: take type=oci, or leave them out",
                ));
            }
            target.attested = Attested::Explicit;
        }
        let made = assemble(job, solved, &self.options, request, &target).await?;
        layers.end();
        step.part(&format!("exporting manifest {}", made.target.digest)).end();
        if let Some(config) = &made.config {
            step.part(&format!("exporting config {config}")).end();
        }
        let mut answer = answer(&made)?;
        answer.extend(made.config.map(|digest| ("containerimage.config.digest".to_owned(), digest.to_string())));
        let shown = self.options.shown();
        if !shown.is_empty() {
            answer.insert("image.name".to_owned(), shown);
        }
        self.send(job, made, target, &answer, step).await?;
        Ok(answer)
    }

    async fn send(
        &self,
        job: &Arc<Job>,
        made: Assembled,
        target: Target,
        answer: &HashMap<String, String>,
        step: &Step<'_>,
    ) -> Result<()> {
        let platform = made.target.platform.clone().unwrap_or_else(Platform::host);
        let annotations = made.target.annotations.clone().unwrap_or_default();
        let saved = Saved { target: made.target, references: self.options.names.clone(), only: None, annotations };
        let client = client(job).await?;
        if self.directory {
            return send_directory(&client, saved, &target, step).await;
        }
        let part = step.part("sending tarball");
        let (form, moved) = (self.form, part.counter());
        let write = move |out: &mut dyn std::io::Write| {
            let images = [saved];
            store::image::savable(&target.sources, &images)?;
            Ok(store::image::save(&target.sources, &images, &platform, form, Counted { out, moved: &moved })?)
        };
        client.send_file(self.id, answer, write).await?;
        part.end();
        Ok(())
    }
}

/// Sends what an image has, piece by piece. The client names it in its index.
async fn send_directory(client: &Client, saved: Saved, target: &Target, step: &Step<'_>) -> Result<()> {
    let sources = target.sources.clone();
    let blobs = blocking(move || Ok(store::image::blobs(&sources, &saved)?)).await?;
    let part = step.part("copying blobs");
    for (digest, size) in blobs {
        let sources = target.sources.clone();
        client.send_blob(&output_store(), &digest, size, move || Ok(sources.open(&digest)?), part.counter()).await?;
    }
    part.end();
    Ok(())
}

/// Counts what is written.
pub(super) struct Counted<'a> {
    pub out: &'a mut dyn std::io::Write,
    pub moved: &'a (dyn Fn(u64) + Send + Sync),
}

impl std::io::Write for Counted<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(data)?;
        (self.moved)(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
