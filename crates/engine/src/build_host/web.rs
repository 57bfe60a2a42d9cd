//! Files at addresses, for builds.

use build::host::Fetched;
use futures_util::StreamExt;

use crate::error::{Error, Result};
use crate::image::Images;

impl Images {
    /// Asks for what is at an address, with the certificates and the rules of address that pulls have.
    ///
    /// # Errors
    /// Nobody answers there; it leads to where it may not.
    pub(super) async fn fetch(&self, address: &str, headers: &[(&'static str, String)]) -> Result<Fetched> {
        let answer = self.client().web(address, headers).await?;
        let header = |name| answer.header(name).map(str::to_owned);
        let (status, etag, modified) = (answer.status(), header("etag"), header("last-modified"));
        let body = futures_util::stream::unfold(Some(answer), |answer| async {
            let mut answer = answer?;
            match answer.chunk().await {
                Ok(Some(data)) => Some((Ok(data), Some(answer))),
                Ok(None) => None,
                Err(error) => Some((Err(build::Error::from(Error::from(error))), None)),
            }
        });
        Ok(Fetched { status, etag, modified, body: body.boxed() })
    }
}
