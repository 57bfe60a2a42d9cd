//! Definitions as clients send them: what is read, and what is refused.

use build::graph::{Graph, digest};
use buildkit::wire::llb::{
    Definition, DiffOp, ExecOp, FileAction, FileActionAction, FileActionRm, FileOp, Input, MergeInput, MergeOp, Meta,
    Mount, Op, OpOp, SourceOp, UpperDiffInput,
};
use prost::Message;

fn source(identifier: &str) -> Op {
    let source = SourceOp { identifier: identifier.into(), ..SourceOp::default() };
    Op { op: Some(OpOp::Source(source)), ..Op::default() }
}

fn on(inputs: &[(&Op, i64)], op: OpOp) -> Op {
    let input = |(op, index): &(&Op, i64)| Input { digest: digest(&op.encode_to_vec()), index: *index };
    Op { inputs: inputs.iter().map(input).collect(), op: Some(op), ..Op::default() }
}

fn exec(change: impl FnOnce(&mut ExecOp)) -> OpOp {
    let mut exec = ExecOp {
        meta: Some(Meta { args: vec!["true".into()], ..Meta::default() }),
        mounts: vec![Mount { dest: "/".into(), ..Mount::default() }],
        ..ExecOp::default()
    };
    change(&mut exec);
    OpOp::Exec(exec)
}

fn read(ops: &[&Op]) -> Result<Graph, String> {
    let def = ops.iter().map(|op| op.encode_to_vec()).collect();
    Graph::read(&Definition { def, ..Definition::default() }).map_err(|error| error.to_string())
}

#[test]
fn steps_come_after_their_inputs_and_the_last_one_names_what_is_wanted() {
    let base = source("docker-image://x");
    let run = on(&[(&base, 0)], exec(|_| {}));
    let unneeded = source("docker-image://y");
    let input = Input { digest: digest(&run.encode_to_vec()), index: 0 };
    let last = Op { inputs: vec![input], ..Op::default() };
    let graph = read(&[&unneeded, &run, &base, &last]).unwrap();
    let names: Vec<&str> = graph.vertices.iter().map(|vertex| vertex.name.as_str()).collect();
    assert_eq!(names, ["docker-image://x", "true"]);
    assert_eq!(graph.root.map(|edge| (edge.vertex, edge.output)), Some((1, 0)));
    assert!(read(&[]).unwrap().root.is_none());
}

#[test]
fn a_long_chain_is_no_deep_stack() {
    let mut ops = vec![source("docker-image://x")];
    for _ in 0..20_000 {
        let next = on(&[(ops.last().unwrap(), 0)], exec(|_| {}));
        ops.push(next);
    }
    let graph = read(&ops.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(graph.vertices.len(), 20_001);
}

#[test]
fn what_is_not_known_is_refused() {
    let base = source("docker-image://x");
    let step = |op: OpOp| on(&[(&base, 0)], op);
    let mount = |change: &dyn Fn(&mut Mount)| {
        exec(|exec| {
            let mut mount = Mount { dest: "/m".into(), ..Mount::default() };
            change(&mut mount);
            exec.mounts.push(mount);
        })
    };
    let rm = |change: &dyn Fn(&mut FileAction)| {
        let rm = FileActionRm { path: "/x".into(), ..FileActionRm::default() };
        let mut action =
            FileAction { input: 0, secondary_input: -1, output: 0, action: Some(FileActionAction::Rm(rm)) };
        change(&mut action);
        OpOp::File(FileOp { actions: vec![action] })
    };
    for (op, words) in [
        (Op { op: None, ..step(exec(|_| {})) }, ""),
        (source(""), "a source without an identifier"),
        (step(exec(|exec| exec.network = 9)), "network mode 9"),
        (step(exec(|exec| exec.security = 9)), "security mode 9"),
        (step(exec(|exec| exec.meta = None)), "without a command"),
        (step(exec(|exec| exec.mounts.clear())), "without a root file system"),
        (step(mount(&|mount| mount.mount_type = 9)), "type of mount 9"),
        (step(mount(&|mount| mount.content_cache = 9)), "content cache 9"),
        (step(mount(&|mount| mount.input = 5)), "refers to input 5"),
        (
            step(exec(|exec| exec.mounts.extend(vec![Mount { dest: "/m".into(), ..Mount::default() }; 200]))),
            "more than 200 mounts",
        ),
        (step(mount(&|mount| mount.input = -2)), "refers to input -2"),
        (step(mount(&|mount| mount.dest = "m".into())), "has to be absolute"),
        (step(mount(&|mount| mount.output = 1 << 40)), "there is none"),
        (step(mount(&|mount| mount.dest = "/".into())), "several root file systems"),
        (step(mount(&|mount| mount.dest = "//x/../.".into())), "several root file systems"),
        (step(rm(&|action| action.action = None)), "not known here"),
        (step(rm(&|action| action.input = 1)), "there is none"),
        (step(rm(&|action| action.output = 1 << 40)), "there is none"),
        (step(OpOp::File(FileOp::default())), "without actions"),
        (step(OpOp::Merge(MergeOp { inputs: vec![MergeInput { input: 3 }] })), "refers to input 3"),
        (
            step(OpOp::Diff(DiffOp { upper: Some(UpperDiffInput { input: 3 }), ..DiffOp::default() })),
            "refers to input 3",
        ),
    ] {
        // The last step of a definition alone may do nothing.
        let over = on(&[(&op, 0)], exec(|_| {}));
        let words = if words.is_empty() { "none that is known here" } else { words };
        let error = read(&[&base, &op, &over]).unwrap_err();
        assert!(error.contains(words), "{error}: {words}");
    }
    let lost = on(&[(&source("gone"), 0)], exec(|_| {}));
    assert!(read(&[&lost]).unwrap_err().contains("which is not in it"));
    let garbage = Definition { def: vec![vec![0xff; 10]], ..Definition::default() };
    assert!(Graph::read(&garbage).unwrap_err().to_string().contains("cannot be read"));
}
