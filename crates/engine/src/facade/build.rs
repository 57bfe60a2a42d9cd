//! Building: clients of BuildKit's protocol are handed to the builder.

use std::sync::Arc;

use build::Builder;

use crate::Engine;
use crate::error::{Result, fail};

impl Engine {
    /// The builder.
    ///
    /// # Errors
    /// Unavailable while the engine opens.
    pub fn builder(&self) -> Result<&Arc<Builder>> {
        self.inner.builder().ok_or_else(|| fail!(Unavailable, "the engine is starting up"))
    }
}
