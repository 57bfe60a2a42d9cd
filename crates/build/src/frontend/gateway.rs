//! Front ends that are images (`# syntax=…`, `gateway.v0`): run as containers, they read the Dockerfile, or whatever they make
//! of it, and answer with definitions. Docker's own are built in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use buildkit::wire::llb::Definition;
use dockerfile::Source;
use tokio::sync::mpsc;
use types::{Kind, Platform, Reference};

use super::Options;
use crate::error::{Error, Result};
use crate::export::Step;
use crate::job::{Job, MAX_FRONT_ENDS, Solved};
use crate::service::{self, FrontEnd};
use crate::solve::Talk;

/// The front end's name.
pub(super) const NAME: &str = "gateway.v0";
/// How long a front end that has returned may take to end.
const LEAVING: Duration = Duration::from_secs(10);
/// Bytes on their way to a front end.
const BUFFER: usize = 64 << 10;

/// Which front end a Dockerfile wants.
pub(super) enum Wanted {
    /// Docker's, which is the one here.
    BuiltIn(String),
    /// Another.
    Image { image: String, cmdline: String },
}

/// What `# syntax=` or `BUILDKIT_SYNTAX` says; nothing when this is the front end that was asked for.
pub(super) fn wanted(options: &Options, source: &Source) -> Result<Option<Wanted>> {
    // A front end that was started with a command line is the one.
    if options.attrs.contains_key("cmdline") {
        return Ok(None);
    }
    let told = options.build_args.get("BUILDKIT_SYNTAX").filter(|text| !text.is_empty()).cloned();
    let Some(cmdline) = told.or_else(|| dockerfile::syntax(source)) else { return Ok(None) };
    let image = cmdline.split_whitespace().next().unwrap_or_default().to_owned();
    let invalid = |e| Error::new(Kind::Invalid, format!("invalid front end \"{image}\": {e}"));
    let reference = Reference::parse(&image).map_err(invalid)?.with_default_tag();
    let built_in = ["docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"];
    if built_in.contains(&reference.name().as_str()) {
        return Ok(Some(Wanted::BuiltIn(reference.familiar())));
    }
    Ok(Some(Wanted::Image { image: reference.to_string(), cmdline }))
}

/// Has an image be the front end.
///
/// # Errors
/// The image is nowhere to be had; it ends without an answer; its answer.
pub(super) async fn solve(
    job: &Arc<Job>,
    image: &str,
    attrs: HashMap<String, String>,
    inputs: HashMap<String, Definition>,
) -> Result<Solved> {
    if image.is_empty() {
        return Err(Error::new(Kind::Invalid, format!("front end {NAME} needs an image: the option source")));
    }
    let _turn = job.front_ends.clone().try_acquire_owned().map_err(|_| {
        Error::new(Kind::Exhausted, format!("more than {MAX_FRONT_ENDS} front ends at a time in one build"))
    })?;
    let step = Step::begin(job, &format!("[internal] front end {image}"));
    let solved = run(job, image, attrs, inputs, step.digest()).await;
    let solved = solved.map_err(|error| error.context(format_args!("front end {image}")));
    step.end(solved.as_ref().err());
    solved
}

async fn run(
    job: &Arc<Job>,
    image: &str,
    attrs: HashMap<String, String>,
    inputs: HashMap<String, Definition>,
    vertex: &str,
) -> Result<Solved> {
    let mode = attrs.get("image-resolve-mode").map(String::as_str);
    let base = job.build.base_image(image, Some(Platform::host()), mode).await?;
    let mut variables = vec![format!("BUILDKIT_SESSION_ID={}", job.build.session.clone().unwrap_or_default())];
    let workers = serde_json::json!([{ "ID": "dhow", "Labels": {}, "Platforms": [{
        "architecture": Platform::host().arch, "os": Platform::host().os }] }]);
    variables.push(format!("BUILDKIT_WORKERS={workers}"));
    variables.push("BUILDKIT_EXPORTEDPRODUCT=".to_owned());
    let attrs: std::collections::BTreeMap<_, _> = attrs.into_iter().collect();
    variables.extend(
        attrs.iter().enumerate().map(|(at, (name, value))| format!("BUILDKIT_FRONTEND_OPT_{at}={name}={value}")),
    );
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (returned, mut answers) = mpsc::channel(1);
    let front_end = FrontEnd { job: Arc::clone(job), inputs, returned };
    let methods = Arc::new(service::methods_of_front_end(front_end));
    let cancel = job.build.cancel.child_token();
    let talk = Talk { stream: theirs, vertex: vertex.to_owned(), cancel: cancel.clone() };
    // Ends with this.
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(buildkit::server::serve(ours, methods));
    let mut running = std::pin::pin!(job.build.front_end(base, variables, talk));
    tokio::select! {
        // What it answered counts, however it ends after that.
        biased;
        Some(answer) = answers.recv() => {
            // One that does not leave by itself is ended with this.
            drop(tokio::time::timeout(LEAVING, running).await);
            answer
        }
        ended = &mut running => {
            let ended = ended?;
            answers.try_recv().unwrap_or_else(|_| {
                let text = format!("it ended without an answer: exit code: {}", ended.code);
                Err(Error::new(Kind::Invalid, text))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, args: &[(&str, &str)], attrs: &[(&str, &str)]) -> Option<String> {
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        let pairs = attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let args = args.iter().map(|(name, value)| (format!("build-arg:{name}"), (*value).to_owned()));
        let options = Options::read(pairs.chain(args).collect()).unwrap();
        wanted(&options, &source).unwrap().map(|wanted| match wanted {
            Wanted::BuiltIn(image) => format!("built in {image}"),
            Wanted::Image { image, cmdline } => format!("{image} {cmdline}"),
        })
    }

    #[test]
    fn front_ends_that_files_want() {
        assert_eq!(find("FROM a\n", &[], &[]), None);
        assert_eq!(find("# syntax=docker/dockerfile:1\n", &[], &[]).unwrap(), "built in docker/dockerfile:1");
        let upstream = "# syntax=docker.io/docker/dockerfile-upstream:master-labs\n";
        assert_eq!(find(upstream, &[], &[]).unwrap(), "built in docker/dockerfile-upstream:master-labs");
        let other = "# syntax=example.org/own:2 x\n";
        assert_eq!(find(other, &[], &[]).unwrap(), "example.org/own:2 example.org/own:2");
        assert_eq!(find(other, &[], &[("cmdline", "example.org/own:2")]), None);
        let told = [("BUILDKIT_SYNTAX", "own/front")];
        assert_eq!(find("FROM a\n", &told, &[]).unwrap(), "docker.io/own/front:latest own/front");
    }
}
