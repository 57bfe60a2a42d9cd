//! `dhow build`: a client of builders. It speaks BuildKit's protocol over two connections to the daemon: on one it asks for
//! the build and hears its story, on the other the builder asks for files, credentials and secrets.
//!
//! A daemon on the same host gets the directories themselves, as descriptors, and takes from them what it does not have;
//! others are sent what they ask for.

mod connection;
mod context;
mod csv;
mod failure;
mod options;
mod outputs;
mod progress;
mod session;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use buildkit::session::Session as Calls;
use buildkit::wire::{control, gateway};
use tonic::{Request, Status};

use crate::{
    Error, Result, Session,
    flags::Parsed,
    term::output::{print, print_line, warn},
};
use connection::Greeting;
use context::Context;
use options::{Call, Options};
use outputs::Outputs;
use progress::{Display, Mode};
use session::{Agents, Offer, Secrets};

const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
const STATUS: &str = "/moby.buildkit.v1.Control/Status";
const WORKERS: &str = "/moby.buildkit.v1.Control/ListWorkers";
const FRONTEND_SOLVE: &str = "/moby.buildkit.v1.frontend.LLBBridge/Solve";
const FRONTEND_RETURN: &str = "/moby.buildkit.v1.frontend.LLBBridge/Return";

/// What a build is asked by: everything of the command line.
struct Build {
    request: control::SolveRequest,
    options: Options,
    offer: Arc<Offer>,
    mode: Mode,
    debug: bool,
    explain: bool,
}

/// Runs the command.
pub(crate) fn run(parsed: &Parsed, session: &Session) -> Result<u8> {
    let mode = Mode::read(parsed)?;
    let outputs = Outputs::read(parsed)?;
    let client = session.client()?;
    let config = session.config()?;
    let mut options = Options::read(parsed, config, &client.host().to_string())?;
    let (secrets, agents) = (Secrets::read(parsed)?, Agents::read(parsed)?);
    let mut context = Context::read(parsed)?;
    let key = context.key();
    let (id, upload) = (random()?, random()?);
    options.attrs.extend(std::mem::take(&mut context.attrs));
    if context.archive.is_some() {
        // The builder takes it from the session.
        options.attrs.insert("context".to_owned(), format!("http://buildkit-session/{upload}"));
    }
    let offer = Arc::new(Offer {
        directories: context.directories.clone(),
        archive: Mutex::new(context.archive.take()),
        secrets,
        agents,
        targets: outputs.targets,
        config: config.clone(),
        debug: parsed.on("debug"),
    });
    let request = control::SolveRequest {
        r#ref: random()?,
        session: id.clone(),
        exporters: outputs.exporters,
        entitlements: options.entitlements.clone(),
        cache: Some(options.cache.clone()),
        ..control::SolveRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let build = Build { request, options, offer, mode, debug: parsed.on("debug"), explain: parsed.on("explain") };
    let done = runtime.block_on(build.run(client, &id, &key));
    // Threads that wait for something that nobody needs any more, such as standard input, are left to the process's end.
    runtime.shutdown_background();
    let Done { answer, asked } = done?;
    drop(context);
    if let (Call::Ask(what, json), Some(asked)) = (options::call(parsed)?, asked) {
        return answered(what, &asked, json);
    }
    finish(parsed, mode, &answer)
}

/// How a build ended.
struct Done {
    /// What the exporters say.
    answer: HashMap<String, String>,
    /// What the front end says, where it was asked.
    asked: Option<HashMap<String, Vec<u8>>>,
}

impl Build {
    async fn run(mut self, client: &client::Client, id: &str, key: &str) -> Result<Done> {
        let (methods, names) = (self.offer.methods(), self.offer.names());
        let greeting = Greeting { id, key, methods: &names, directories: self.shareable(client) };
        let (io, shared) = connection::answer(client, greeting)?;
        if self.debug {
            let how = if shared { "shared with the daemon" } else { "sent to the daemon" };
            warn(&format!("debug: the directories of the build are {how}"));
        }
        tokio::spawn(async move {
            // That it ends is the end of the build, which is told on the other connection.
            let _ = buildkit::server::serve(io, Arc::new(methods)).await;
        });
        let (calls, driven) = Calls::open(connection::ask(client)?).await.map_err(broken)?;
        tokio::spawn(driven);
        if !self.options.gateways.is_empty() {
            let address = gateway(&calls).await?;
            self.options.gateway(&address);
        }
        let mut display = Display::new(self.mode);
        let story = self.request.r#ref.clone();
        let solved = {
            let solving = self.solve(&calls);
            if self.mode == Mode::Quiet && !self.explain {
                solving.await
            } else {
                follow(&calls, &story, &mut display, solving).await
            }
        };
        match solved {
            Ok(done) => Ok(done),
            Err(status) => {
                if self.mode == Mode::Quiet && !self.explain {
                    // What the step said is worth knowing now.
                    let _ = hear(&calls, &story, &mut display).await;
                }
                Err(failure::error(&status, &display.story))
            }
        }
    }

    /// Directories that a daemon on this host may have, as far as we may read them.
    fn shareable(&self, client: &client::Client) -> Vec<(String, OwnedFd)> {
        use rustix::fs::{Mode, OFlags};
        if client.host().unix_path().is_none() || std::env::var_os("DHOW_BUILD_SEND").is_some() {
            return Vec::new();
        }
        let open =
            |path| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        let named = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic());
        let all = self.offer.directories.iter().filter(|(name, _)| named(name));
        all.filter_map(|(name, path)| Some((name.clone(), open(path)?))).collect()
    }

    async fn solve(&self, calls: &Calls) -> std::result::Result<Done, Status> {
        let mut request = self.request.clone();
        if self.options.call == Call::Build {
            request.frontend = "dockerfile.v0".to_owned();
            request.frontend_attrs = self.options.attrs.clone();
            let answer = calls.call::<_, control::SolveResponse>(SOLVE, Request::new(request)).await?;
            return Ok(Done { answer: answer.into_inner().exporter_response, asked: None });
        }
        // What a front end says of a Dockerfile is for those who speak to it themselves.
        request.exporters.clear();
        let name = request.r#ref.clone();
        let solving = calls.call::<_, control::SolveResponse>(SOLVE, Request::new(request));
        let asking = async {
            let asked = gateway::SolveRequest {
                frontend: "dockerfile.v0".to_owned(),
                frontend_opt: self.options.attrs.clone(),
                ..gateway::SolveRequest::default()
            };
            let asked: std::result::Result<gateway::SolveResponse, Status> =
                calls.call(FRONTEND_SOLVE, named(asked, &name)?).await.map(tonic::Response::into_inner);
            let mut give = gateway::ReturnRequest {
                result: Some(gateway::Result::default()),
                ..gateway::ReturnRequest::default()
            };
            if let Err(status) = &asked {
                give.result = None;
                give.error = Some(buildkit::wire::status::Status {
                    code: status.code() as i32,
                    message: status.message().to_owned(),
                    ..buildkit::wire::status::Status::default()
                });
            }
            calls.call::<_, gateway::ReturnResponse>(FRONTEND_RETURN, named(give, &name)?).await?;
            asked
        };
        let (solved, asked) = tokio::join!(solving, asking);
        let asked = asked?.result.unwrap_or_default().metadata;
        Ok(Done { answer: solved?.into_inner().exporter_response, asked: Some(asked) })
    }
}

/// A call of a front end names the build.
fn named<M>(message: M, build: &str) -> std::result::Result<Request<M>, Status> {
    let mut request = Request::new(message);
    let value = build.parse().map_err(|_| Status::internal("the name of the build"))?;
    request.metadata_mut().insert("buildkit-controlapi-buildid", value);
    Ok(request)
}

/// Tells the story of a build while it is done.
async fn follow<T>(
    calls: &Calls,
    name: &str,
    display: &mut Display,
    solving: impl Future<Output = std::result::Result<T, Status>>,
) -> std::result::Result<T, Status> {
    let hearing = async {
        // A story that cannot be heard does not stop the build.
        if let Err(status) = hear(calls, name, display).await {
            warn(&format!("the progress of the build cannot be shown: {}", status.message()));
        }
        display.end();
    };
    // The story ends with the build, also when that fails.
    let (solved, ()) = tokio::join!(solving, hearing);
    solved
}

async fn hear(calls: &Calls, name: &str, display: &mut Display) -> std::result::Result<(), Status> {
    let request = control::StatusRequest { r#ref: name.to_owned() };
    let once = Request::new(futures_util::stream::iter([request]));
    let mut story = calls.stream::<_, control::StatusResponse>(STATUS, once).await?.into_inner();
    let mut ticks = display.every().map(tokio::time::interval);
    loop {
        let tick = async {
            match &mut ticks {
                Some(ticks) => drop(ticks.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            told = futures_util::StreamExt::next(&mut story) => match told {
                Some(told) => display.take(told?),
                None => return Ok(()),
            },
            () = tick => display.draw(),
        }
    }
}

/// The address of the daemon's host, as steps see it.
async fn gateway(calls: &Calls) -> Result<String> {
    const LABEL: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";
    let request = Request::new(control::ListWorkersRequest::default());
    let workers = calls.call::<_, control::ListWorkersResponse>(WORKERS, request).await;
    let workers = workers.map_err(|status| Error::new(status.message()))?.into_inner().record;
    let address = workers.iter().find_map(|worker| worker.labels.get(LABEL));
    address
        .cloned()
        .ok_or_else(|| Error::new("unable to derive the IP value for host-gateway: the daemon does not say it"))
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(format!("the connection to the daemon broke: {error}"))
}

/// What a front end said of a Dockerfile; the exit code is its verdict.
fn answered(what: &str, asked: &HashMap<String, Vec<u8>>, json: bool) -> Result<u8> {
    let text = |key: &str| asked.get(key).map(|value| String::from_utf8_lossy(value).into_owned());
    let shown = text(if json { "result.json" } else { "result.txt" });
    let shown = shown.ok_or_else(|| {
        Error::new("the daemon's front end does not answer this; check, outline and targets need a newer one")
    })?;
    if shown.is_empty() && what == "frontend.lint" {
        print_line("Check complete, no warnings found.")?;
    }
    print(&if shown.ends_with('\n') || shown.is_empty() { shown } else { format!("{shown}\n") })?;
    let code = text("result.statuscode").and_then(|code| code.trim().parse().ok()).unwrap_or(0);
    Ok(code)
}

/// What is left to do with the daemon's answer.
fn finish(parsed: &Parsed, mode: Mode, answer: &HashMap<String, String>) -> Result<u8> {
    let id = answer.get("containerimage.config.digest").or_else(|| answer.get("containerimage.digest"));
    let write = |path: &str, text: &str| {
        let path = std::path::Path::new(path);
        std::fs::write(path, text).map_err(Error::file("cannot write", path))
    };
    if let Some(path) = parsed.opt("iidfile") {
        let id = id.ok_or_else(|| Error::new("--iidfile: the result is no image"))?;
        write(path, id)?;
    }
    if let Some(path) = parsed.opt("metadata-file") {
        let text = serde_json::to_string_pretty(&metadata(answer)).map_err(client::Error::from)?;
        write(path, &text)?;
    }
    if let (Mode::Quiet, Some(id)) = (mode, id) {
        print_line(id)?;
    }
    Ok(0)
}

/// The answer as a document; values that are documents themselves come encoded.
fn metadata(answer: &HashMap<String, String>) -> serde_json::Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut sorted: Vec<_> = answer.iter().collect();
    sorted.sort();
    let document = |value: &str| STANDARD.decode(value).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let value = |value: &String| document(value).unwrap_or_else(|| serde_json::Value::from(value.as_str()));
    sorted.into_iter().map(|(key, text)| (key.clone(), value(text))).collect::<serde_json::Map<_, _>>().into()
}

/// A name that nobody else has.
fn random() -> Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = [0; 25];
    getrandom::fill(&mut bytes).map_err(|error| Error::new(format!("the system has no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}
