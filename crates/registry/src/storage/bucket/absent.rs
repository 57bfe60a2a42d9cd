//! In place of `remote` in a program that is built without the feature `buckets`: there is no bucket.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::address::BucketAddress;
use super::failure::{Failure, Kind};

/// Cannot be had.
#[derive(Debug)]
pub(super) enum Remote {}

type Result<T> = std::result::Result<T, Failure>;

impl Remote {
    pub(super) fn new(address: &BucketAddress) -> Result<Self> {
        Err(Failure::new(Kind::Refused, address, "use", "this program was built without the feature `buckets`"))
    }

    pub(super) async fn put(&self, _: &str, _: Bytes) -> Result<()> {
        match *self {}
    }

    pub(super) async fn size(&self, _: &str) -> Result<Option<u64>> {
        match *self {}
    }

    pub(super) async fn get(&self, _: &str) -> Result<Option<Bytes>> {
        match *self {}
    }

    pub(super) async fn stream(&self, _: &str, _: Range<u64>) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        match *self {}
    }

    pub(super) async fn delete(&self, _: Vec<String>) -> Result<()> {
        match *self {}
    }

    pub(super) async fn list(&self, _: &str, _: impl FnMut(&str, u64) -> Result<()> + Send) -> Result<()> {
        match *self {}
    }

    pub(super) async fn upload(&self, _: &str, _: Arc<File>, _: u64) -> Result<()> {
        match *self {}
    }
}
