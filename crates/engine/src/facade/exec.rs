//! Further processes in containers.

use std::sync::Arc;

use docker_types::IdResponse;
use docker_types::exec::{ExecCreateBody, ExecInspect};

use super::containers::carry;
use crate::container::attach::Attached;
use crate::engine::Engine;
use crate::error::Result;
use crate::exec;
pub use crate::exec::ExecStartOptions;

impl Engine {
    /// Register a command to run in a running container.
    ///
    /// # Errors
    /// Conflict when the container does not run.
    pub async fn exec_create(&self, reference: &str, body: ExecCreateBody) -> Result<IdResponse> {
        let container = self.inner.containers.get(reference)?;
        let exec = exec::create(&self.inner, &container, reference, body).await?;
        Ok(IdResponse { id: exec.id().to_owned() })
    }

    /// Start it; none when detached.
    ///
    /// # Errors
    /// Not found; Conflict when it was started before.
    pub async fn exec_start(&self, id: &str, options: ExecStartOptions) -> Result<Option<Attached>> {
        let exec = self.inner.execs.get(id)?;
        let inner = Arc::clone(&self.inner);
        carry(async move { exec::start(&inner, &exec, &options).await }).await
    }

    /// New size of its terminal, in characters.
    ///
    /// # Errors
    /// Conflict when it does not run.
    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        exec::resize(&*self.inner.execs.get(id)?, rows, cols).await
    }

    /// What is known of it.
    ///
    /// # Errors
    /// Not found.
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        Ok(exec::inspect(&*self.inner.execs.get(id)?))
    }
}
