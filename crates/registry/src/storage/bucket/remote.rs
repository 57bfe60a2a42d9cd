//! The objects of one bucket, below its prefix, whosever protocol it speaks.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, RetryConfig,
};
use tokio::sync::Semaphore;

use super::address::{BucketAddress, Vendor};
use super::failure::{Failure, Kind};
use super::http::Connector;

/// Bytes of one part of an upload; a smaller object is sent in one request.
const PART: u64 = 8 << 20;
/// Most parts of an upload, for the stores that allow 10,000.
const PARTS_MAX: u64 = 9_000;
/// Parts of one upload on their way at once, and of all uploads.
const PARTS_AT_ONCE: (usize, usize) = (4, 8);
/// Most bytes of an object that is read whole.
const SMALL_MAX: u64 = 8 << 20;

/// See the file's paragraph.
#[derive(Debug)]
pub(super) struct Remote {
    store: Arc<dyn ObjectStore>,
    address: BucketAddress,
    /// Parts in memory.
    parts: Semaphore,
}

type Result<T> = std::result::Result<T, Failure>;

impl Remote {
    /// Reads what the vendor's own tools read of the environment, and does not connect yet.
    pub(super) fn new(address: &BucketAddress) -> Result<Self> {
        let options = ClientOptions::new().with_allow_http(true);
        let backoff =
            BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(2), base: 2. };
        // A client that waits for an answer is told before it gives up.
        let retry = RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_secs(10) };
        let bucket = address.bucket.as_str();
        let store: object_store::Result<Arc<dyn ObjectStore>> = match address.vendor {
            Vendor::S3 => AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(Connector)
                .build()
                .map(|store| Arc::new(store) as _),
            Vendor::Google => GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(Connector)
                .build()
                .map(|store| Arc::new(store) as _),
            Vendor::Azure => MicrosoftAzureBuilder::from_env()
                .with_container_name(bucket)
                .with_client_options(options)
                .with_retry(retry)
                .with_http_connector(Connector)
                .build()
                .map(|store| Arc::new(store) as _),
        };
        let store = store.map_err(|e| Failure::new(Kind::Refused, address, "set up", &e))?;
        Ok(Self { store, address: address.clone(), parts: Semaphore::new(PARTS_AT_ONCE.1) })
    }

    fn path(&self, key: &str) -> Path {
        match self.address.prefix.as_str() {
            "" => Path::from(key),
            prefix => Path::from(format!("{prefix}/{key}")),
        }
    }

    fn failed(&self, doing: &'static str) -> impl Fn(Error) -> Failure {
        move |error| Failure::of(&self.address, doing, &error)
    }

    /// `None` where it is the object that is not there, and not the bucket.
    fn found<T>(&self, doing: &'static str, result: object_store::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::NotFound { source, .. }) if !Failure::names_the_bucket(&source.to_string()) => Ok(None),
            Err(e) => Err(self.failed(doing)(e)),
        }
    }

    /// Puts an object, and returns when the bucket has it.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let put = self.store.put(&self.path(key), bytes.into()).await;
        put.map(drop).map_err(self.failed("write to"))
    }

    /// Size of an object in bytes.
    pub(super) async fn size(&self, key: &str) -> Result<Option<u64>> {
        let head = self.store.head(&self.path(key)).await;
        Ok(self.found("look into", head)?.map(|meta| meta.size))
    }

    /// A small object whole.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let got = self.store.get(&self.path(key)).await;
        let Some(got) = self.found("read from", got)? else { return Ok(None) };
        if got.meta.size > SMALL_MAX {
            let large = io::Error::other(format!("{key} has {} bytes, which is not ours", got.meta.size));
            return Err(Failure::new(Kind::Refused, &self.address, "read from", &large));
        }
        got.bytes().await.map(Some).map_err(self.failed("read from"))
    }

    /// A part of an object as it comes.
    pub(super) async fn stream(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
        let got = self.store.get_opts(&self.path(key), options).await;
        let address = self.address.clone();
        let failed = move |error: Error| Failure::of(&address, "read from", &error);
        Ok(self.found("read from", got)?.map(|got| got.into_stream().map_err(failed).boxed()))
    }

    /// Removes objects; one that is not there is removed already.
    pub(super) async fn delete(&self, keys: Vec<String>) -> Result<()> {
        let paths: Vec<_> = keys.iter().map(|key| Ok(self.path(key))).collect();
        let mut deleted = self.store.delete_stream(stream::iter(paths).boxed());
        while let Some(one) = deleted.next().await {
            self.found("delete from", one)?;
        }
        Ok(())
    }

    /// Calls `each` with the key, below the prefix, and the size of every object whose key begins with the directory.
    pub(super) async fn list(
        &self,
        directory: &str,
        mut each: impl FnMut(&str, u64) -> Result<()> + Send,
    ) -> Result<()> {
        let skip = if self.address.prefix.is_empty() { 0 } else { self.address.prefix.len() + 1 };
        let mut all = self.store.list(Some(&self.path(directory)));
        while let Some(ObjectMeta { location, size, .. }) = all.try_next().await.map_err(self.failed("list"))? {
            if let Some(key) = location.as_ref().get(skip..) {
                each(key, size)?;
            }
        }
        Ok(())
    }

    /// Puts the first `size` bytes of a file, and returns when the bucket has them as one object.
    pub(super) async fn upload(&self, key: &str, file: Arc<File>, size: u64) -> Result<()> {
        if size <= PART {
            let _permit = self.parts.acquire().await;
            let bytes = self.piece(&file, 0, size).await?;
            return self.put(key, bytes).await;
        }
        let mut upload = self.store.put_multipart(&self.path(key)).await.map_err(self.failed("write to"))?;
        let sent = self.send_parts(upload.as_mut(), &file, size).await;
        let done = match sent {
            Ok(()) => upload.complete().await.map(drop).map_err(self.failed("write to")),
            Err(failure) => Err(failure),
        };
        if done.is_err() {
            // Parts cost until they are removed; where this fails too the bucket's own rules are left to do it.
            let _ = upload.abort().await;
        }
        if self.parts.available_permits() == PARTS_AT_ONCE.1 {
            // The allocator would keep the parts of the last upload for the next one.
            sys::memory::trim_heap();
        }
        done
    }

    async fn send_parts(&self, upload: &mut dyn MultipartUpload, file: &Arc<File>, size: u64) -> Result<()> {
        // All parts but the last have one size, as some stores want it; whole MiB.
        let part = PART.max(size.div_ceil(PARTS_MAX).next_multiple_of(1 << 20));
        let mut flying = FuturesUnordered::new();
        let mut offset = 0;
        while offset < size {
            if flying.len() == PARTS_AT_ONCE.0 {
                flying.try_next().await?;
            }
            // Whoever waits here has parts on their way that end without further permits.
            let permit = tokio::select! {
                permit = self.parts.acquire() => permit,
                done = flying.try_next(), if !flying.is_empty() => {
                    done?;
                    continue;
                }
            };
            let length = part.min(size - offset);
            let sending = upload.put_part(self.piece(file, offset, length).await?.into());
            offset += length;
            flying.push(async move {
                let sent = sending.await;
                drop(permit);
                sent.map_err(self.failed("write to"))
            });
        }
        while flying.try_next().await?.is_some() {}
        Ok(())
    }

    async fn piece(&self, file: &Arc<File>, offset: u64, length: u64) -> Result<Bytes> {
        let (file, length) = (Arc::clone(file), usize::try_from(length).unwrap_or(usize::MAX));
        let read = tokio::task::spawn_blocking(move || crate::http::body::read(&file, offset, length)).await;
        let read = read.map_err(io::Error::other).flatten();
        read.map_err(|e| Failure::new(Kind::Local, &self.address, "read an upload for", &e))
    }
}
