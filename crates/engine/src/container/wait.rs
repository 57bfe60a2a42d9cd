//! Waiting for a container. Whoever waits is subscribed before the call returns, so that an exit
//! right after it is never missed. Called by the facade.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use docker_types::container::{ContainerWaitResponse, WaitExitError};

use super::{Container, Outcome};
use crate::error::{Result, fail};

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running now, or the next exit.
    #[default]
    NotRunning,
    /// The next exit, even of a container not started yet.
    NextExit,
    /// The removal.
    Removed,
}

/// Resolves with the exit code.
pub struct WaitHandle(Pin<Box<dyn Future<Output = Result<ContainerWaitResponse>> + Send>>);

impl Future for WaitHandle {
    type Output = Result<ContainerWaitResponse>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// Subscribe now, wait later.
pub(crate) fn wait(container: &Arc<Container>, condition: WaitCondition) -> WaitHandle {
    let mut outcome = container.outcome.subscribe();
    let seen = outcome.borrow().exits;
    WaitHandle(Box::pin(async move {
        let met = |o: &Outcome| match condition {
            WaitCondition::NotRunning => !o.running || o.exits > seen || o.removed,
            WaitCondition::NextExit => o.exits > seen || o.removed,
            WaitCondition::Removed => o.removed,
        };
        let outcome =
            outcome.wait_for(met).await.map_err(|_| fail!(Unavailable, "the container is gone before it ended"))?;
        // Who waits for the removal hears of a failed removal only, never of the start that failed before.
        let told = condition != WaitCondition::Removed && !outcome.error.is_empty();
        let error = told.then(|| WaitExitError { message: outcome.error.clone() });
        Ok(ContainerWaitResponse { error, status_code: i64::from(outcome.exit_code) })
    }))
}
