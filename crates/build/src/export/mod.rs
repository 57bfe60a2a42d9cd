//! What becomes of a result: an image with its names, here or at a registry, or files and archives at the client's.
//!
//! What is asked for is read before anything is built (`Outputs::read`), so that a mistake in an option costs no build.

mod annotations;
mod archive;
mod assemble;
mod attrs;
mod files;
mod image;
mod layers;
mod step;

use std::collections::HashMap;
use std::sync::Arc;

use buildkit::wire::control;
use types::Kind;

pub(crate) use assemble::CONFIG;
pub(crate) use attrs::boolean;
pub(crate) use layers::Compressed;
pub(crate) use step::Step;

use self::attrs::Attrs;
use crate::attest::Asked;
use crate::error::{Error, Result};
use crate::job::{Job, Reference, Solved};
use crate::tree::Tree;

/// The metadata that has the time of a build.
pub(crate) const EPOCH: &str = "source.date.epoch";

/// Most outputs of one build.
const MAX_OUTPUTS: usize = 32;

/// What is asked to become of a result.
#[derive(Debug)]
pub(crate) struct Outputs {
    outputs: Vec<Output>,
    request: Request,
}

#[derive(Debug)]
enum Output {
    Image(image::Output),
    Archive(archive::Output),
    Files(files::Output),
}

/// What a client said of the build as a whole.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// `SOURCE_DATE_EPOCH`.
    epoch: Option<String>,
    /// Statements about the result.
    attest: Asked,
}

impl Request {
    /// The time that what is made is to have, in seconds since 1970.
    ///
    /// # Errors
    /// It is no number.
    fn epoch(&self, solved: &Solved) -> Result<Option<i64>> {
        let said = solved.metadata.get(EPOCH).map(|value| String::from_utf8_lossy(value).into_owned());
        let Some(text) = self.epoch.clone().or(said).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Error::new(Kind::Invalid, format!("SOURCE_DATE_EPOCH \"{text}\" is no number of seconds since 1970"))
        })
    }
}

impl Outputs {
    /// Reads what is asked for; `attrs` are the front end's.
    ///
    /// # Errors
    /// Types and options of outputs that are not known, or make no sense.
    pub(crate) fn read(exporters: &[control::Exporter], attrs: &HashMap<String, String>) -> Result<Self> {
        if exporters.len() > MAX_OUTPUTS {
            return Err(Error::new(Kind::Invalid, format!("more than {MAX_OUTPUTS} outputs")));
        }
        let one = |(id, exporter): (usize, &control::Exporter)| {
            let attrs = Attrs::new(&exporter.r#type, &exporter.attrs);
            match exporter.r#type.as_str() {
                "moby" | "image" => image::Output::read(attrs, false).map(Output::Image),
                "registry" => image::Output::read(attrs, true).map(Output::Image),
                "oci" | "docker" => archive::Output::read(id, &exporter.r#type, attrs).map(Output::Archive),
                "local" | "tar" => files::Output::read(id, &exporter.r#type, attrs).map(Output::Files),
                other => Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "output type \"{other}\" is not known: there are image, registry, oci, docker, local and tar"
                    ),
                )),
            }
        };
        let outputs = exporters.iter().enumerate().map(one).collect::<Result<_>>()?;
        let epoch = attrs.get("build-arg:SOURCE_DATE_EPOCH").cloned();
        Ok(Self { outputs, request: Request { epoch, attest: Asked::read(attrs)? } })
    }

    /// Carries out what is asked to become of a result. The answer is for the client.
    ///
    /// # Errors
    /// A step that was not needed before failed; the disk is full; the client or a registry refuses.
    pub(crate) async fn export(&self, job: &Arc<Job>, solved: &Solved) -> Result<HashMap<String, String>> {
        let mut answer = HashMap::new();
        if self.outputs.is_empty() {
            result_trees(job, solved).await?;
        }
        for output in &self.outputs {
            answer.extend(match output {
                Output::Image(output) => output.export(job, solved, &self.request).await?,
                Output::Archive(output) => output.export(job, solved, &self.request).await?,
                Output::Files(output) => output.export(job, solved, &self.request).await?,
            });
        }
        Ok(answer)
    }
}

/// What was asked for of one platform, by the platform's name.
fn reference_of<'a>(solved: &'a Solved, platform: Option<&str>) -> Option<&'a Reference> {
    match platform {
        None => solved.reference.as_ref(),
        Some(name) => solved.by_platform.iter().find(|(known, _)| known == name).map(|(_, reference)| reference),
    }
}

/// The trees of a result, with the names of their platforms where there are several.
async fn result_trees(job: &Job, solved: &Solved) -> Result<Vec<(Option<String>, Tree)>> {
    let mut trees = Vec::new();
    match (&solved.reference, solved.by_platform.as_slice()) {
        (Some(reference), _) => trees.push((None, job.tree(reference).await?)),
        (None, []) => trees.push((None, Tree::default())),
        (None, several) => {
            for (platform, reference) in several {
                trees.push((Some(platform.clone()), job.tree(reference).await?));
            }
        }
    }
    Ok(trees)
}

/// The client that what is made goes to.
async fn client(job: &Job) -> Result<crate::session::Client> {
    let session = job.build.session.as_ref();
    let session =
        session.ok_or_else(|| Error::new(Kind::Invalid, "the output goes to the client, and it has no session"))?;
    job.build.shared.sessions.get(session).await
}
