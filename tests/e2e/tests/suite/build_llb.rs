//! Definitions from clients that are no Dockerfile's: operations that no instruction becomes.

use std::collections::HashMap;

use buildkit::session::Session;
use buildkit::wire::control::{Exporter, ListWorkersRequest, ListWorkersResponse, SolveRequest, SolveResponse};
use buildkit::wire::llb::{self, Definition, FileActionAction, OpOp};
use e2e::Daemon;
use prost::Message;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::Request;

/// Operations so far.
#[derive(Default)]
struct Graph(Vec<Vec<u8>>);

impl Graph {
    fn add(&mut self, op: Option<OpOp>, inputs: &[&str]) -> String {
        let inputs = inputs.iter().map(|digest| llb::Input { digest: (*digest).to_owned(), index: 0 }).collect();
        let bytes = llb::Op { inputs, op, ..llb::Op::default() }.encode_to_vec();
        let sum = Sha256::digest(&bytes);
        self.0.push(bytes);
        format!("sha256:{}", sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    fn image(&mut self, name: &str) -> String {
        let identifier = format!("docker-image://docker.io/library/{name}:latest");
        self.add(Some(OpOp::Source(llb::SourceOp { identifier, attrs: HashMap::new() })), &[])
    }

    fn file(&mut self, base: &str, action: FileActionAction) -> String {
        let action = llb::FileAction { input: 0, secondary_input: -1, output: 0, action: Some(action) };
        self.add(Some(OpOp::File(llb::FileOp { actions: vec![action] })), &[base])
    }

    fn make(&mut self, base: &str, path: &str, text: &str) -> String {
        let data = text.as_bytes().to_vec();
        let file = llb::FileActionMkFile { path: path.to_owned(), mode: 0o644, data, owner: None, timestamp: 0 };
        self.file(base, FileActionAction::Mkfile(file))
    }

    fn remove(&mut self, base: &str, path: &str) -> String {
        let rm = llb::FileActionRm { path: path.to_owned(), allow_not_found: false, allow_wildcard: false };
        self.file(base, FileActionAction::Rm(rm))
    }

    fn merge(&mut self, inputs: &[&str]) -> String {
        let each = (0..inputs.len()).map(|input| llb::MergeInput { input: i64::try_from(input).unwrap() });
        self.add(Some(OpOp::Merge(llb::MergeOp { inputs: each.collect() })), inputs)
    }

    fn diff(&mut self, lower: &str, upper: &str) -> String {
        let op = llb::DiffOp {
            lower: Some(llb::LowerDiffInput { input: 0 }),
            upper: Some(llb::UpperDiffInput { input: 1 }),
        };
        self.add(Some(OpOp::Diff(op)), &[lower, upper])
    }

    fn definition(mut self, last: &str) -> Definition {
        self.add(None, &[last]);
        Definition { def: self.0, ..Definition::default() }
    }
}

/// A connection for the builder: upgraded, or HTTP/2 from its first byte.
async fn connect(daemon: &Daemon, upgraded: bool) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.socket_path()).await.unwrap();
    if upgraded {
        let head = "POST /grpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    }
    stream
}

/// Solves a definition into an image.
async fn solve(daemon: &Daemon, name: &str, definition: Definition) -> Result<SolveResponse, tonic::Status> {
    let (session, driven) = Session::open(connect(daemon, true).await).await.unwrap();
    let driving = tokio::spawn(driven);
    let attrs = HashMap::from([("name".to_owned(), name.to_owned())]);
    let request = SolveRequest {
        r#ref: format!("llb-{name}"),
        definition: Some(definition),
        exporters: vec![Exporter { r#type: "moby".to_owned(), attrs }],
        ..SolveRequest::default()
    };
    let answer = session.call("/moby.buildkit.v1.Control/Solve", Request::new(request)).await;
    driving.abort();
    answer.map(tonic::Response::into_inner)
}

#[test]
fn trees_are_merged_and_compared() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let client = daemon.docker();
    let ls =
        |image: &str| client.run(&["run", "--rm", "--network", "none", image, "sh", "-c", "cd /; cat t-* ; ls -d t-*"]);

    // What one step made of another's result, laid over a third.
    let mut graph = Graph::default();
    let base = graph.image("busybox");
    let one = graph.make(&base, "/t-one", "1\n");
    let two = graph.make(&one, "/t-two", "2\n");
    let diff = graph.diff(&one, &two);
    let three = graph.make(&base, "/t-three", "3\n");
    let merged = graph.merge(&[&three, &diff]);
    runtime.block_on(solve(&daemon, "merged", graph.definition(&merged))).unwrap();
    assert_eq!(ls("merged"), "3\n2\nt-three\nt-two");

    // Trees of which neither was made of the other: what is gone goes too.
    let mut graph = Graph::default();
    let base = graph.image("busybox");
    let lower = graph.make(&base, "/t-old", "old\n");
    let lower = graph.make(&lower, "/t-same", "same\n");
    let upper = graph.make(&base, "/t-same", "same\n");
    let upper = graph.make(&upper, "/t-new", "new\n");
    let diff = graph.diff(&lower, &upper);
    let more = graph.make(&lower, "/t-more", "more\n");
    let merged = graph.merge(&[&more, &diff]);
    runtime.block_on(solve(&daemon, "compared", graph.definition(&merged))).unwrap();
    assert_eq!(ls("compared"), "more\nnew\nsame\nt-more\nt-new\nt-same");

    // A removal is a difference.
    let mut graph = Graph::default();
    let base = graph.image("busybox");
    let made = graph.make(&base, "/t-gone", "x\n");
    let removed = graph.remove(&made, "/t-gone");
    let kept = graph.make(&removed, "/t-kept", "k\n");
    let diff = graph.diff(&made, &kept);
    let merged = graph.merge(&[&made, &diff]);
    runtime.block_on(solve(&daemon, "removed", graph.definition(&merged))).unwrap();
    assert_eq!(ls("removed"), "k\nt-kept");
}

#[test]
fn the_protocol_is_spoken_without_an_upgrade_too() {
    let Some(daemon) = Daemon::start() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for upgraded in [true, false] {
            let (session, driven) = Session::open(connect(&daemon, upgraded).await).await.unwrap();
            let driving = tokio::spawn(driven);
            let ask = Request::new(ListWorkersRequest::default());
            let method = "/moby.buildkit.v1.Control/ListWorkers";
            let answer = session.call::<_, ListWorkersResponse>(method, ask).await.unwrap().into_inner();
            assert_eq!(answer.record.len(), 1);
            // What is no method is said to be none, and the connection lives.
            let other = Request::new(ListWorkersRequest::default());
            let refused = session.call::<_, ListWorkersResponse>("/containers/json", other).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unimplemented);
            driving.abort();
        }
    });
    // And HTTP/1.1 as ever.
    daemon.docker().run(&["version"]);
}

#[test]
fn what_is_not_known_is_refused() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let refused = |name: &str, graph: Graph, last: &str| {
        runtime.block_on(solve(&daemon, name, graph.definition(last))).unwrap_err().message().to_owned()
    };
    let mut graph = Graph::default();
    let source = llb::SourceOp { identifier: "gopher://x".to_owned(), attrs: HashMap::new() };
    let last = graph.add(Some(OpOp::Source(source)), &[]);
    assert!(refused("scheme", graph, &last).contains("the kind is not known"));
    let mut graph = Graph::default();
    let attrs = HashMap::from([("http.surprise".to_owned(), "x".to_owned())]);
    let source = llb::SourceOp { identifier: "http://127.0.0.1:1/x".to_owned(), attrs };
    let last = graph.add(Some(OpOp::Source(source)), &[]);
    assert!(refused("attribute", graph, &last).contains("http.surprise"));
    let mut graph = Graph::default();
    let base = graph.image("busybox");
    let last = graph.diff(&base, "sha256:0000000000000000000000000000000000000000000000000000000000000000");
    assert!(refused("missing", graph, &last).contains("which is not in it"));
}
