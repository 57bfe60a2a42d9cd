//! A front end for the tests: reads `recipe` of the context, a line `FROM` and a line of text, and makes an image with the
//! text in `/made`. It speaks BuildKit's gateway protocol on its standard input and output.

#![allow(clippy::print_stderr, reason = "what it prints there is shown by the build")]

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use buildkit::session::Session;
use buildkit::wire::gateway::{
    PingRequest, PongResponse, ReadDirRequest, ReadDirResponse, ReadFileRequest, ReadFileResponse, Ref,
    ResolveImageConfigRequest, ResolveImageConfigResponse, Result as Returned, ResultResult, ReturnRequest,
    ReturnResponse, SolveRequest, SolveResponse,
};
use buildkit::wire::llb::{self, Definition, OpOp};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Stdin, Stdout};
use tonic::Request;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Standard input and output as one connection.
struct Standard(Stdin, Stdout);

impl AsyncRead for Standard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Standard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.1).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.1).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.1).poll_shutdown(cx)
    }
}

macro_rules! bridge {
    ($session:expr, $method:literal, $request:expr) => {
        $session
            .call(concat!("/moby.buildkit.v1.frontend.LLBBridge/", $method), Request::new($request))
            .await?
            .into_inner()
    };
}

fn op(op: OpOp, inputs: Vec<llb::Input>) -> (Vec<u8>, String) {
    let bytes = llb::Op { inputs, op: Some(op), ..llb::Op::default() }.encode_to_vec();
    let digest = digest(&bytes);
    (bytes, digest)
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    let sum = Sha256::digest(bytes);
    format!("sha256:{}", sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn definition(mut ops: Vec<Vec<u8>>, last: &str) -> Definition {
    let inputs = vec![llb::Input { digest: last.to_owned(), index: 0 }];
    ops.push(llb::Op { inputs, ..llb::Op::default() }.encode_to_vec());
    Definition { def: ops, ..Definition::default() }
}

async fn solved(session: &Session, definition: Definition) -> Outcome<Ref> {
    let request = SolveRequest { definition: Some(definition), evaluate: true, ..SolveRequest::default() };
    let answer: SolveResponse = bridge!(session, "Solve", request);
    match answer.result.and_then(|result| result.result) {
        Some(ResultResult::Ref(found)) => Ok(found),
        other => Err(format!("no result but {other:?}").into()),
    }
}

async fn build(session: &Session) -> Outcome<(Ref, Vec<u8>)> {
    let pong: PongResponse = bridge!(session, "Ping", PingRequest {});
    if !pong.frontend_api_caps.iter().any(|cap| cap.id == "readdir") {
        return Err("directories cannot be read".into());
    }
    let options: HashMap<String, String> = std::env::vars()
        .filter(|(name, _)| name.starts_with("BUILDKIT_FRONTEND_OPT_"))
        .filter_map(|(_, value)| value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let attrs = HashMap::from([("local.session".to_owned(), std::env::var("BUILDKIT_SESSION_ID")?)]);
    let source = llb::SourceOp { identifier: "local://context".to_owned(), attrs };
    let (bytes, context) = op(OpOp::Source(source), Vec::new());
    let files = solved(session, definition(vec![bytes], &context)).await?;
    let listed: ReadDirResponse = bridge!(
        session,
        "ReadDir",
        ReadDirRequest { r#ref: files.id.clone(), dir_path: ".".to_owned(), include_pattern: "rec*".to_owned() }
    );
    let [recipe] = listed.entries.as_slice() else { return Err(format!("{} recipes", listed.entries.len()).into()) };
    let read: ReadFileResponse =
        bridge!(session, "ReadFile", ReadFileRequest { r#ref: files.id, file_path: recipe.path.clone(), range: None });
    let text = String::from_utf8(read.data)?;
    let mut lines = text.lines();
    let base = lines.next().and_then(|line| line.strip_prefix("FROM ")).ok_or("no FROM")?;
    if base == "nothing" {
        return Err("this recipe is made of nothing".into());
    }
    let name = format!("docker.io/library/{base}:latest");
    let request = ResolveImageConfigRequest { r#ref: name.clone(), ..ResolveImageConfigRequest::default() };
    let config: ResolveImageConfigResponse = bridge!(session, "ResolveImageConfig", request);
    let told = options.get("build-arg:SAID").map(String::as_str).unwrap_or_default();
    let data = format!("{}{told}\n", lines.next().unwrap_or_default()).into_bytes();
    let source = llb::SourceOp { identifier: format!("docker-image://{name}"), attrs: HashMap::new() };
    let (from, from_digest) = op(OpOp::Source(source), Vec::new());
    let file = llb::FileActionMkFile { path: "/made".to_owned(), mode: 0o644, data, owner: None, timestamp: -1 };
    let action =
        llb::FileAction { input: 0, secondary_input: -1, output: 0, action: Some(llb::FileActionAction::Mkfile(file)) };
    let inputs = vec![llb::Input { digest: from_digest, index: 0 }];
    let (made, made_digest) = op(OpOp::File(llb::FileOp { actions: vec![action] }), inputs);
    let result = solved(session, definition(vec![from, made], &made_digest)).await?;
    eprintln!("made by the front end");
    Ok((result, config.config))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let (session, driven) = Session::open(Standard(tokio::io::stdin(), tokio::io::stdout())).await?;
    tokio::spawn(driven);
    let request = match build(&session).await {
        Ok((result, config)) => {
            let metadata = HashMap::from([("containerimage.config".to_owned(), config)]);
            let result = Returned { result: Some(ResultResult::Ref(result)), metadata, ..Returned::default() };
            ReturnRequest { result: Some(result), ..ReturnRequest::default() }
        }
        Err(error) => {
            let status = buildkit::wire::status::Status { code: 2, message: error.to_string(), details: Vec::new() };
            ReturnRequest { error: Some(status), ..ReturnRequest::default() }
        }
    };
    let _: ReturnResponse = bridge!(session, "Return", request);
    Ok(())
}
