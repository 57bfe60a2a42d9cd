//! What a new engine makes of the containers of the last one. Needs root, `/bin/busybox` and a built
//! `dhow-shim`; says so and passes where they are missing.

use std::time::Duration;

use crate::common::host;
use engine::{RemoveOptions, StopOptions, WaitCondition};
use types::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_containers_go_on_under_the_next_engine() {
    let Some(mut host) = host().await else { return };
    let id = host.create(&["sh", "-c", "echo one; sleep 1000"], |_, _| {}).await;
    host.engine().container_start(&id, None).await.unwrap();
    let before = host.engine().container_inspect(&id, false).await.unwrap();
    host.reopen().await;
    let after = host.engine().container_inspect(&id, false).await.unwrap();
    assert_eq!((after.state.pid, after.state.running), (before.state.pid, true));
    assert_eq!(after.state.started_at, before.state.started_at);
    assert_eq!(after.name, before.name);
    let wait = host.engine().container_wait(&id, WaitCondition::NextExit).unwrap();
    host.engine().container_stop(&id, StopOptions { timeout: Some(0), signal: None }).await.unwrap();
    assert_eq!(wait.await.unwrap().status_code, 137);
    assert_eq!(host.logs(&id).await.0, "one\n");
    host.engine().container_remove(&id, RemoveOptions::default()).await.unwrap();
    host.reopen().await;
    assert_eq!(host.engine().container_inspect(&id, false).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exit_while_no_engine_ran_keeps_code_and_time() {
    let Some(mut host) = host().await else { return };
    let id = host.create(&["sh", "-c", "sleep 0.3; exit 9"], |_, _| {}).await;
    let removed = host.create(&["sh", "-c", "sleep 0.3"], |_, h| h.auto_remove = true).await;
    let again = host.create(&["sh", "-c", "sleep 0.3; exit 1"], |_, h| h.restart_policy.name = "always".into()).await;
    for id in [&id, &removed, &again] {
        host.engine().container_start(id, None).await.unwrap();
    }
    host.close().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    host.open().await;
    let state = host.engine().container_inspect(&id, false).await.unwrap().state;
    assert_eq!((state.status.as_str(), state.exit_code), ("exited", 9));
    let finished: jiff::Timestamp = state.finished_at.parse().unwrap();
    let ago = jiff::Timestamp::now().duration_since(finished);
    assert!(ago > jiff::SignedDuration::from_millis(900), "the time is that of the exit, not of its discovery");
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let gone = host.engine().container_inspect(&removed, false).await.is_err();
        let restarted = host.engine().container_inspect(&again, false).await.unwrap().restart_count > 0;
        if gone && restarted {
            host.engine().container_remove(&again, RemoveOptions { force: true, ..Default::default() }).await.unwrap();
            return;
        }
    }
    panic!("--rm and restart policies are not applied to exits nobody saw");
}
