//! Definitions that no front end makes, and questions that no client asks, sent as they are.

use std::time::Duration;

use buildkit::session::Session;
use buildkit::wire::control::{SolveRequest, SolveResponse};
use buildkit::wire::gateway::{self, ReadFileRequest, ReadFileResponse, ReturnRequest, ReturnResponse};
use buildkit::wire::gateway::{StatFileRequest, StatFileResponse};
use buildkit::wire::llb::{
    Definition, ExecOp, FileAction, FileActionAction, FileActionMkDir, FileOp, Input, MergeInput, MergeOp, Meta, Mount,
    MountType, Op, OpOp, SecurityMode, SourceOp,
};
use e2e::Daemon;
use prost::Message;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::Request;

use crate::build::assert_nothing_stays;

const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";

fn digest(op: &Op) -> String {
    let hex: String = Sha256::digest(op.encode_to_vec()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn image() -> Op {
    let source =
        SourceOp { identifier: "docker-image://docker.io/library/busybox:latest".into(), ..SourceOp::default() };
    Op { op: Some(OpOp::Source(source)), ..Op::default() }
}

fn on(inputs: &[&Op], op: OpOp) -> Op {
    let input = |op: &&Op| Input { digest: digest(op), index: 0 };
    Op { inputs: inputs.iter().map(input).collect(), op: Some(op), ..Op::default() }
}

fn run(script: &str, change: impl FnOnce(&mut ExecOp)) -> OpOp {
    let args = ["sh", "-c", script].map(str::to_owned).to_vec();
    let env = vec!["PATH=/bin".to_owned()];
    let mut exec = ExecOp {
        meta: Some(Meta { args, env, cwd: "/".into(), ..Meta::default() }),
        mounts: vec![Mount { dest: "/".into(), ..Mount::default() }],
        network: 2,
        ..ExecOp::default()
    };
    change(&mut exec);
    OpOp::Exec(exec)
}

fn definition(ops: &[&Op]) -> Definition {
    Definition { def: ops.iter().map(|op| op.encode_to_vec()).collect(), ..Definition::default() }
}

async fn connect(daemon: &Daemon) -> Session {
    let mut stream = UnixStream::connect(daemon.socket_path()).await.unwrap();
    let head = "POST /grpc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    let (session, driven) = Session::open(stream).await.unwrap();
    tokio::spawn(driven);
    session
}

/// What comes of a definition, within a time in which every one is done or refused.
async fn solve(session: &Session, name: &str, ops: &[&Op], entitlements: &[&str]) -> Result<(), String> {
    let request = SolveRequest {
        r#ref: name.to_owned(),
        definition: Some(definition(ops)),
        entitlements: entitlements.iter().map(|text| (*text).to_owned()).collect(),
        ..SolveRequest::default()
    };
    let call = session.call::<_, SolveResponse>(SOLVE, Request::new(request));
    let answer = tokio::time::timeout(Duration::from_secs(60), call).await.expect("an answer");
    answer.map(drop).map_err(|status| status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_is_not_done() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let session = connect(&daemon).await;
    let base = image();
    for (number, (change, words)) in [
        (Box::new(|exec: &mut ExecOp| exec.network = 1) as Box<dyn Fn(&mut ExecOp)>, "network.host is not allowed"),
        (
            Box::new(|exec: &mut ExecOp| exec.security = SecurityMode::Insecure as i32),
            "security.insecure is not allowed",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let step = on(&[&base], run("true", change));
        let error = solve(&session, &format!("a{number}"), &[&base, &step], &[]).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    for (dest, words) in [
        ("/../.", "several root file systems"),
        ("/proc/self/attr", "inside /proc"),
        ("/etc/../proc/sys", "inside /proc"),
    ] {
        let tmpfs = |exec: &mut ExecOp| {
            let kind = MountType::Tmpfs as i32;
            exec.mounts.push(Mount { dest: dest.into(), input: -1, output: -1, mount_type: kind, ..Mount::default() });
        };
        let step = on(&[&base], run("true", tmpfs));
        let error = solve(&session, &format!("mount{dest}"), &[&base, &step], &[]).await.unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    assert_nothing_stays(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn graphs_that_grow_without_end_are_refused() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let session = connect(&daemon).await;
    let mut ops = vec![image()];
    for _ in 0..40 {
        let last = ops.last().unwrap();
        let merge = MergeOp { inputs: vec![MergeInput { input: 0 }, MergeInput { input: 1 }] };
        let next = on(&[last, last], OpOp::Merge(merge));
        ops.push(next);
    }
    let error = solve(&session, "merges", &ops.iter().collect::<Vec<_>>(), &[]).await.unwrap_err();
    assert!(error.contains("more than 1000 layers"), "{error}");

    let mkdir = |number: usize| FileAction {
        input: -1,
        secondary_input: -1,
        output: -1,
        action: Some(FileActionAction::Mkdir(FileActionMkDir {
            path: format!("/{number}"),
            mode: 0o755,
            timestamp: -1,
            ..FileActionMkDir::default()
        })),
    };
    let many = Op { op: Some(OpOp::File(FileOp { actions: (0..5000).map(mkdir).collect() })), ..Op::default() };
    let error = solve(&session, "many", &[&many], &[]).await.unwrap_err();
    assert!(error.contains("more than 100 trees at a time"), "{error}");
    assert_nothing_stays(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_end_reads_files_of_results_and_nothing_else() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.busybox();
    let (session, beside) = (connect(&daemon).await, connect(&daemon).await);
    let waiting = tokio::spawn(async move {
        let request = SolveRequest { r#ref: "asking".into(), ..SolveRequest::default() };
        beside
            .call::<_, SolveResponse>(SOLVE, Request::new(request))
            .await
            .map(drop)
            .map_err(|status| status.message().to_owned())
    });
    let of_build = |build: &str| build.parse().unwrap();
    macro_rules! ask {
        ($method:literal, $answer:ty, $question:expr) => {{
            let mut request = Request::new($question);
            request.metadata_mut().insert("buildkit-controlapi-buildid", of_build("asking"));
            let path = concat!("/moby.buildkit.v1.frontend.LLBBridge/", $method);
            let call = session.call::<_, $answer>(path, request);
            let answer = tokio::time::timeout(Duration::from_secs(60), call).await.expect("an answer");
            answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
        }};
    }
    let base = image();
    let script = "mkfifo /fifo; ln -s /proc/self/environ /environ; ln -s ../../../../etc/shadow /up; mkdir /d; \
                  ln -s /d/f /in; echo inside > /d/f; mknod /zero c 1 5; touch -d '2400-01-01 00:00:00' /late; ln -s loop /loop";
    let step = on(&[&base], run(script, |_| {}));
    let solved = ask!(
        "Solve",
        gateway::SolveResponse,
        gateway::SolveRequest { definition: Some(definition(&[&base, &step])), ..gateway::SolveRequest::default() }
    );
    let id = match solved.unwrap().result.unwrap().result.unwrap() {
        gateway::ResultResult::Ref(found) => found.id,
        other => panic!("{other:?}"),
    };
    let read = |path: &str| ReadFileRequest { r#ref: id.clone(), file_path: path.to_owned(), range: None };
    assert_eq!(ask!("ReadFile", ReadFileResponse, read("/in")).unwrap().data, b"inside\n");
    assert_eq!(ask!("ReadFile", ReadFileResponse, read("../../d/../d/f")).unwrap().data, b"inside\n");
    for path in ["/fifo", "/environ", "/up", "/zero", "/d", "/loop", "", "/proc/self/environ", "/\0"] {
        let error = ask!("ReadFile", ReadFileResponse, read(path)).unwrap_err();
        assert!(error.starts_with("open "), "{path}: {error}");
    }
    for (offset, length, expected) in [(2, 1, Some("s")), (i64::MIN, -1, Some("inside\n")), (i64::MAX, i64::MAX, None)]
    {
        let range = Some(gateway::FileRange { offset, length });
        let answer = ask!("ReadFile", ReadFileResponse, ReadFileRequest { range, ..read("/in") });
        assert_eq!(answer.ok().map(|answer| answer.data), expected.map(|text| text.as_bytes().to_vec()));
    }
    let stat = ask!("StatFile", StatFileResponse, StatFileRequest { r#ref: id.clone(), path: "/late".into() });
    assert!(stat.unwrap().stat.unwrap().mod_time > 0);
    assert!(
        ask!("StatFile", StatFileResponse, StatFileRequest { r#ref: "other".into(), path: "/late".into() }).is_err()
    );
    ask!("Return", ReturnResponse, ReturnRequest::default()).unwrap();
    waiting.await.unwrap().unwrap();
    assert_nothing_stays(&daemon);
}
