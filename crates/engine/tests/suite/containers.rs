//! Containers through the façade and the real shim. Needs root, `/bin/busybox` and a built
//! `dhow-shim`; says so and passes where they are missing.

use crate::common::{demultiplex, host, read_attached};
use engine::{AttachOptions, ExecStartOptions, RemoveOptions, StopOptions, WaitCondition};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use types::Kind;

const ALL: AttachOptions =
    AttachOptions { stdin: true, stdout: true, stderr: true, stream: true, logs: false, detach_keys: None };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_and_leaves_its_code_and_output() {
    let Some(host) = host().await else { return };
    let (code, out, err) = host.run(&["sh", "-c", "echo hi; echo oops >&2; exit 7"], |_, _| {}).await;
    assert_eq!((code, out.as_str(), err.as_str()), (7, "hi\n", "oops\n"));
    let list = host.engine().container_list(engine::ListOptions { all: true, ..Default::default() }).await.unwrap();
    assert_eq!(list.len(), 1);
    assert!(list[0].status.starts_with("Exited (7) "), "{}", list[0].status);
    assert_eq!(list[0].command, "sh -c 'echo hi; echo oops >&2; exit 7'");
    let inspect = host.engine().container_inspect(&list[0].id[..12], true).await.unwrap();
    assert_eq!((inspect.state.exit_code, inspect.state.running, inspect.state.pid), (7, false, 0));
    host.engine().container_remove(&list[0].id, RemoveOptions::default()).await.unwrap();
    assert_eq!(host.engine().container_inspect(&list[0].id, false).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_attached_before_the_start_misses_nothing() {
    let Some(host) = host().await else { return };
    let id = host
        .create(&["sh", "-c", "seq 100000; cat"], |c, h| {
            (c.open_stdin, c.stdin_once, c.attach_stdin) = (true, true, true);
            h.auto_remove = true;
        })
        .await;
    let mut attached = host.engine().container_attach(&id, ALL).await.unwrap();
    let wait = host.engine().container_wait(&id, WaitCondition::Removed).unwrap();
    host.engine().container_start(&id, None).await.unwrap();
    attached.stream.write_all(b"typed\n").await.unwrap();
    attached.stream.shutdown().await.unwrap();
    let (out, _) = read_attached(&mut attached).await;
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect::<String>() + "typed\n";
    assert!(out == expected, "{} bytes instead of {}", out.len(), expected.len());
    assert_eq!(wait.await.unwrap().status_code, 0);
    assert!(host.engine().container_inspect(&id, false).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_cannot_run_are_told_in_dockers_words() {
    let Some(host) = host().await else { return };
    for (cmd, text, code) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH", 127),
        ("/nosuch", "no such file or directory", 127),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied", 126),
    ] {
        let id = host.create(&[cmd], |_, _| {}).await;
        let error = host.engine().container_start(&id, None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        let state = host.engine().container_inspect(&id, false).await.unwrap().state;
        assert_eq!((state.status.as_str(), state.exit_code), ("created", code));
        assert!(state.error.contains(text));
    }
    let id = host.create(&["true"], |c, _| c.user = "nosuch".into()).await;
    let error = host.engine().container_start(&id, None).await.unwrap_err();
    assert_eq!(error.to_string(), "unable to find user nosuch: no matching entries in passwd file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_by_request() {
    let Some(host) = host().await else { return };
    let engine = host.engine();
    let id = host.create(&["sleep", "1000"], |_, _| {}).await;
    engine.container_start(&id, None).await.unwrap();
    assert_eq!(engine.container_start(&id, None).await.unwrap_err().kind(), Kind::AlreadyDone);
    engine.container_pause(&id).await.unwrap();
    assert_eq!(engine.container_inspect(&id, false).await.unwrap().state.status, "paused");
    assert!(engine.container_pause(&id).await.is_err());
    engine.container_unpause(&id).await.unwrap();
    engine.container_rename(&id, "other-name").await.unwrap();
    assert_eq!(engine.container_inspect("other-name", false).await.unwrap().name, "/other-name");
    let top = engine.container_top(&id, "").await.unwrap();
    assert_eq!(top.processes.len(), 1);
    assert!(top.processes[0][7].contains("sleep 1000"));
    let refused = engine.container_remove(&id, RemoveOptions::default()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot remove container \"other-name\": container is running: stop the container before removing or force remove"
    );
    let before = engine.container_inspect(&id, false).await.unwrap().state.pid;
    engine.container_restart(&id, StopOptions { timeout: Some(0), signal: None }).await.unwrap();
    let after = engine.container_inspect(&id, false).await.unwrap();
    assert!(after.state.running && after.state.pid != before);
    engine.container_stop(&id, StopOptions { timeout: Some(0), signal: None }).await.unwrap();
    assert_eq!(engine.container_inspect(&id, false).await.unwrap().state.exit_code, 137);
    assert_eq!(engine.container_stop(&id, StopOptions::default()).await.unwrap_err().kind(), Kind::AlreadyDone);
    let text = engine.container_kill("other-name", None).await.unwrap_err().to_string();
    assert_eq!(text, format!("cannot kill container: other-name: container {id} is not running"));
    engine.container_start(&id, None).await.unwrap();
    engine.container_remove(&id, RemoveOptions { force: true, ..Default::default() }).await.unwrap();
    assert!(engine.container_list(Default::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execs_run_beside_the_first_process() {
    let Some(host) = host().await else { return };
    let engine = host.engine();
    let id = host.create(&["sleep", "1000"], |c, _| c.env = Some(vec!["OUTER=1".into()])).await;
    let body = |cmd: &[&str]| docker_types::exec::ExecCreateBody {
        attach_stdout: true,
        attach_stderr: true,
        cmd: Some(cmd.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>().into()),
        ..Default::default()
    };
    assert_eq!(engine.exec_create(&id, body(&["true"])).await.unwrap_err().kind(), Kind::Conflict);
    engine.container_start(&id, None).await.unwrap();
    let mut wanted = body(&["sh", "-c", "id -u; echo $OUTER$INNER; pwd; exit 3"]);
    wanted.user = "user".into();
    wanted.env = Some(vec!["INNER=2".into()]);
    wanted.working_dir = "/etc".into();
    let exec = engine.exec_create(&id, wanted).await.unwrap().id;
    let mut attached = engine.exec_start(&exec, ExecStartOptions::default()).await.unwrap().unwrap();
    assert_eq!(read_attached(&mut attached).await.0, "1000\n12\n/etc\n");
    let mut state = engine.exec_inspect(&exec).await.unwrap();
    for _ in 0..100 {
        if !state.running {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        state = engine.exec_inspect(&exec).await.unwrap();
    }
    assert_eq!((state.running, state.exit_code), (false, Some(3)));
    assert_eq!(engine.exec_start(&exec, ExecStartOptions::default()).await.unwrap_err().kind(), Kind::Conflict);

    let missing = engine.exec_create(&id, body(&["nosuch"])).await.unwrap().id;
    let mut told = engine.exec_start(&missing, ExecStartOptions::default()).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    told.stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(
        demultiplex(&bytes).0,
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH\r\n"
    );
    assert_eq!(engine.exec_inspect(&missing).await.unwrap().exit_code, Some(127));
    engine.container_remove(&id, RemoveOptions { force: true, ..Default::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn surroundings_are_as_docker_makes_them() {
    let Some(host) = host().await else { return };
    let script = "id; hostname; echo $HOME $TERM $PATH; cat /etc/hostname; ls /dev; cat /proc/1/comm; \
                  grep -E 'CapEff|CapBnd|Seccomp:|NoNewPrivs' /proc/self/status; echo x 2>&1 >/proc/sys/kernel/hostname";
    let (code, out, _) = host
        .run(&["sh", "-c", script], |c, _| {
            c.hostname = "box".into();
            c.user = "user:extra".into();
        })
        .await;
    assert_ne!(code, 0, "writing below /proc/sys must fail");
    assert!(out.starts_with("uid=1000(user) gid=44(extra)"), "{out}");
    assert!(
        out.contains("\nbox\n/home/user /usr/local/sbin") || out.contains("\nbox\n/home/user  /usr/local/sbin"),
        "{out}"
    );
    for device in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin"] {
        assert!(out.lines().any(|l| l == device), "{device} is missing: {out}");
    }
    assert!(out.contains("Seccomp:\t2") && out.contains("CapEff:\t0000000000000000"), "{out}");
    let bounding = out.lines().find_map(|l| l.strip_prefix("CapBnd:\t")).unwrap();
    assert_eq!(u64::from_str_radix(bounding, 16).unwrap() & !0xa804_25fb, 0, "{bounding}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_of_every_kind() {
    let Some(host) = host().await else { return };
    let source = host.dir.path().join("src");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "bound\n").unwrap();
    let script = "cat /b/f; echo x >/b/new 2>/dev/null || echo read-only; echo y >/v/file && cat /v/file; \
                  cat /data/file; mount | grep -E ' /(t|dev/shm) ' ; touch /t/ok && ls /t";
    let (code, out, err) = host
        .run(&["sh", "-c", script], |c, h| {
            h.binds = Some(vec![format!("{}:/b:ro", source.display()), "named-volume:/v".into()]);
            h.tmpfs.insert("/t".into(), "size=1m".into());
            c.volumes = Some([("/data".to_owned(), Default::default())].into());
        })
        .await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("bound\nread-only\ny\nfrom the image\n"), "{out}");
    assert!(out.contains("tmpfs on /t type tmpfs (rw,nosuid,nodev,noexec") && out.ends_with("ok\n"), "{out}");
    assert!(!source.join("new").exists());
    let volumes = host.engine().volume_list(types::Filters::new()).await.unwrap().volumes;
    assert_eq!(volumes.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_restart_and_a_stop_ends_them() {
    let Some(host) = host().await else { return };
    let engine = host.engine();
    let id = host
        .create(&["sh", "-c", "echo run; exit 1"], |_, h| {
            h.restart_policy.name = "on-failure".into();
            h.restart_policy.maximum_retry_count = 2;
        })
        .await;
    engine.container_start(&id, None).await.unwrap();
    let mut state = engine.container_inspect(&id, false).await.unwrap();
    for _ in 0..500 {
        if state.state.status == "exited" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        state = engine.container_inspect(&id, false).await.unwrap();
    }
    assert_eq!((state.state.status.as_str(), state.restart_count), ("exited", 2));
    assert_eq!(host.logs(&id).await.0, "run\nrun\nrun\n");

    let id = host.create(&["sleep", "1000"], |_, h| h.restart_policy.name = "always".into()).await;
    engine.container_start(&id, None).await.unwrap();
    engine.container_stop(&id, StopOptions { timeout: Some(0), signal: None }).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(engine.container_inspect(&id, false).await.unwrap().state.status, "exited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forced_removal_wins_against_ends_and_starts() {
    let Some(host) = host().await else { return };
    let engine = host.engine();
    for _ in 0..30 {
        let id = host.create(&["true"], |_, _| {}).await;
        engine.container_start(&id, None).await.unwrap();
        engine.container_remove(&id, RemoveOptions { force: true, ..Default::default() }).await.unwrap();
        let id = host.create(&["sleep", "1000"], |_, _| {}).await;
        let (started, removed) = tokio::join!(
            engine.container_start(&id, None),
            engine.container_remove(&id, RemoveOptions { force: true, ..Default::default() })
        );
        removed.unwrap();
        drop(started);
        assert_eq!(engine.container_inspect(&id, false).await.unwrap_err().kind(), Kind::NotFound);
    }
    assert!(std::fs::read_dir(host.config.exec_root.join("c")).unwrap().next().is_none(), "run directories stay");
}
