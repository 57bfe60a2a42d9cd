//! What a pull tells while it runs. The names follow the statuses Docker's clients show; turning
//! them into messages is the API's business.

use types::{Digest, Reference};

/// One step of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// `Pulling from library/busybox`, under the id `latest`.
    Pulling {
        /// Repository without domain.
        path: String,
        /// Tag or digest.
        tag: String,
    },
    /// A layer moved on.
    Layer {
        /// First 12 characters of the blob's digest.
        id: String,
        /// Where it stands.
        status: LayerStatus,
    },
    /// `Digest: sha256:…`
    Digest(Digest),
    /// `Status: Downloaded newer image for …`
    Downloaded(Reference),
    /// `Status: Image is up to date for …`
    UpToDate(Reference),
}

/// Where a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerStatus {
    /// `Pulling fs layer`
    PullingFsLayer,
    /// `Waiting` for others to finish.
    Waiting,
    /// `Downloading`, in bytes.
    Downloading {
        /// Bytes that came.
        current: u64,
        /// Bytes promised.
        total: u64,
    },
    /// `Retrying in n seconds`
    Retrying {
        /// Seconds until the next try, rounded up.
        seconds: u64,
    },
    /// `Verifying Checksum`
    VerifyingChecksum,
    /// `Download complete`
    DownloadComplete,
    /// `Extracting`, in compressed bytes.
    Extracting {
        /// Bytes unpacked.
        current: u64,
        /// Bytes to unpack.
        total: u64,
    },
    /// `Pull complete`
    PullComplete,
    /// `Already exists`
    AlreadyExists,
}

impl Progress {
    /// Docker's words: id and status, without the figures.
    pub fn words(&self) -> (Option<String>, String) {
        match self {
            Progress::Pulling { path, tag } => (Some(tag.clone()), format!("Pulling from {path}")),
            Progress::Layer { id, status } => (Some(id.clone()), status.words()),
            Progress::Digest(digest) => (None, format!("Digest: {digest}")),
            Progress::Downloaded(r) => (None, format!("Status: Downloaded newer image for {}", r.familiar())),
            Progress::UpToDate(r) => (None, format!("Status: Image is up to date for {}", r.familiar())),
        }
    }
}

impl LayerStatus {
    /// Docker's words.
    pub fn words(self) -> String {
        match self {
            LayerStatus::PullingFsLayer => "Pulling fs layer".to_owned(),
            LayerStatus::Waiting => "Waiting".to_owned(),
            LayerStatus::Downloading { .. } => "Downloading".to_owned(),
            LayerStatus::Retrying { seconds: 1 } => "Retrying in 1 second".to_owned(),
            LayerStatus::Retrying { seconds } => format!("Retrying in {seconds} seconds"),
            LayerStatus::VerifyingChecksum => "Verifying Checksum".to_owned(),
            LayerStatus::DownloadComplete => "Download complete".to_owned(),
            LayerStatus::Extracting { .. } => "Extracting".to_owned(),
            LayerStatus::PullComplete => "Pull complete".to_owned(),
            LayerStatus::AlreadyExists => "Already exists".to_owned(),
        }
    }
}
