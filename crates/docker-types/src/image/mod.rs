//! Images.

use crate::StringMap;
use crate::container::{GraphDriver, HealthConfig};
use crate::go::{Empty, StrSlice, go_struct};
use crate::oci::{Descriptor, Platform};
use crate::version::{ApiVersion, Versioned, backfill, drop_key};
use serde_json::{Value, json};
use std::collections::BTreeMap;

go_struct! {
    /// An image in lists.
    pub struct ImageSummary {
        /// Containers made of it, -1 when not counted.
        "Containers" containers: i64,
        /// Seconds since the epoch.
        "Created" created: i64,
        "Id" id: String,
        "Labels" labels: Option<StringMap>,
        "ParentId" parent_id: String,
        "Descriptor" / "crate::go::omit" descriptor: Option<Descriptor>,
        "Manifests" / "crate::go::omit" manifests: Vec<ManifestSummary>,
        "RepoDigests" repo_digests: Vec<String>,
        "RepoTags" repo_tags: Vec<String>,
        /// Bytes shared with other images, -1 when not computed.
        "SharedSize" shared_size: i64,
        /// Bytes.
        "Size" size: i64,
    }
}

impl Versioned for ImageSummary {
    const SINCE_MINOR: u16 = 48;

    fn adapt(value: &mut Value, version: ApiVersion) {
        drop_key(value, "Descriptor");
        if !version.at_least(47) {
            drop_key(value, "Manifests");
        }
        if !version.at_least(44) {
            backfill(value, "VirtualSize", value["Size"].clone());
        }
    }
}

go_struct! {
    /// One manifest of a multi-platform image.
    pub struct ManifestSummary {
        "ID" id: String,
        "Descriptor" descriptor: Descriptor,
        "Available" available: bool,
        "Size" size: ManifestSize,
        /// `image`, `attestation`, `unknown`.
        "Kind" kind: String,
        "ImageData" / "crate::go::omit" image_data: Option<ImageData>,
        "AttestationData" / "crate::go::omit" attestation_data: Option<AttestationData>,
    }
}

go_struct! {
    /// Bytes of a manifest's content.
    pub struct ManifestSize {
        "Content" content: i64,
        "Total" total: i64,
    }
}

go_struct! {
    /// Facts of an image manifest.
    pub struct ImageData {
        "Platform" platform: Platform,
        "Containers" containers: Vec<String>,
        "Size" size: ImageDataSize,
    }
}

go_struct! {
    /// Bytes of an unpacked image.
    pub struct ImageDataSize {
        "Unpacked" unpacked: i64,
    }
}

go_struct! {
    /// What an attestation is about.
    pub struct AttestationData {
        "For" subject: String,
    }
}

go_struct! {
    /// Answer of `GET /images/{name}/json`.
    pub struct ImageInspect {
        "Id" id: String,
        "RepoTags" repo_tags: Vec<String>,
        "RepoDigests" repo_digests: Vec<String>,
        "Parent" / "crate::go::omit" parent: String,
        "Comment" / "crate::go::omit" comment: String,
        "Created" / "crate::go::omit" created: String,
        "DockerVersion" / "crate::go::omit" docker_version: String,
        "Author" / "crate::go::omit" author: String,
        "Config" config: Option<ImageConfig>,
        "Architecture" architecture: String,
        "Variant" / "crate::go::omit" variant: String,
        "Os" os: String,
        "OsVersion" / "crate::go::omit" os_version: String,
        "Size" size: i64,
        "GraphDriver" / "crate::go::omit" graph_driver: Option<GraphDriver>,
        "RootFS" root_fs: RootFs,
        "Metadata" metadata: ImageMetadata,
        "Descriptor" / "crate::go::omit" descriptor: Option<Descriptor>,
        "Manifests" / "crate::go::omit" manifests: Vec<ManifestSummary>,
    }
}

go_struct! {
    /// How an image wants to be run: OCI's fields and Docker's.
    pub struct ImageConfig {
        "User" / "crate::go::omit" user: String,
        "ExposedPorts" / "crate::go::omit" exposed_ports: Option<BTreeMap<String, Empty>>,
        "Env" / "crate::go::omit" env: Option<Vec<String>>,
        "Entrypoint" / "crate::go::omit" entrypoint: Option<StrSlice>,
        "Cmd" / "crate::go::omit" cmd: Option<StrSlice>,
        "Volumes" / "crate::go::omit" volumes: Option<BTreeMap<String, Empty>>,
        "WorkingDir" / "crate::go::omit" working_dir: String,
        "Labels" / "crate::go::omit" labels: Option<StringMap>,
        "StopSignal" / "crate::go::omit" stop_signal: String,
        "ArgsEscaped" / "crate::go::omit" args_escaped: bool,
        "Healthcheck" / "crate::go::omit" healthcheck: Option<HealthConfig>,
        "OnBuild" / "crate::go::omit" on_build: Option<Vec<String>>,
        "Shell" / "crate::go::omit" shell: Option<StrSlice>,
    }
}

go_struct! {
    /// The layers of an image.
    pub struct RootFs {
        "Type" / "crate::go::omit" kind: String,
        "Layers" / "crate::go::omit" layers: Vec<String>,
    }
}

go_struct! {
    /// Facts of the local store.
    pub struct ImageMetadata {
        "LastTagTime" last_tag_time: String,
    }
}

impl Versioned for ImageInspect {
    const SINCE_MINOR: u16 = 52;

    /// Before 1.52 empty fields are shown.
    fn adapt(value: &mut Value, version: ApiVersion) {
        for key in ["Parent", "Comment", "DockerVersion", "Author"] {
            backfill(value, key, "");
        }
        backfill(value, "GraphDriver", json!({"Data": null, "Name": "overlayfs"}));
        if let Some(config) = value.get_mut("Config").filter(|c| c.is_object()) {
            for key in ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"] {
                backfill(config, key, Value::Null);
            }
            for key in ["User", "WorkingDir"] {
                backfill(config, key, "");
            }
            if !version.at_least(50) {
                for key in ["Hostname", "Domainname", "Image"] {
                    backfill(config, key, "");
                }
                for key in ["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"] {
                    backfill(config, key, false);
                }
            }
        }
        if !version.at_least(48) {
            drop_key(value, "Descriptor");
            drop_key(value, "Manifests");
        }
        if !version.at_least(44) {
            backfill(value, "VirtualSize", value["Size"].clone());
        }
    }
}

go_struct! {
    /// One step of `GET /images/{name}/history`.
    pub struct HistoryItem {
        "Comment" comment: String,
        /// Seconds since the epoch.
        "Created" created: i64,
        "CreatedBy" created_by: String,
        /// `<missing>` for steps without an image of their own.
        "Id" id: String,
        "Size" size: i64,
        "Tags" tags: Option<Vec<String>>,
    }
}

go_struct! {
    /// One effect of removing an image; one of the two is set.
    pub struct ImageDeleteItem {
        "Untagged" / "crate::go::omit" untagged: String,
        "Deleted" / "crate::go::omit" deleted: String,
    }
}

go_struct! {
    /// Answer of `POST /images/prune`.
    pub struct ImagePruneReport {
        "ImagesDeleted" images_deleted: Option<Vec<ImageDeleteItem>>,
        "SpaceReclaimed" space_reclaimed: u64,
    }
}

go_struct! {
    /// One hit of `GET /images/search`.
    pub struct SearchResult {
        "star_count" star_count: i64,
        "is_official" is_official: bool,
        "name" name: String,
        "is_automated" is_automated: bool,
        "description" description: String,
    }
}

go_struct! {
    /// One version of a name, of `GET /images/{name}/log`, which Docker has nothing like.
    pub struct ImageVersion {
        "Id" id: String,
        "Created" created: String,
        "Action" action: String,
        "Current" current: bool,
        "Available" available: bool,
        "Size" size: i64,
    }
}

go_struct! {
    /// Request of `POST /images/{name}/verify`, which Docker has nothing like.
    pub struct ImageVerifyBody {
        /// A policy to try instead of the daemon's.
        "Policy" policy: String,
        /// Where it came from, for messages.
        "Source" source: String,
    }
}

go_struct! {
    /// What a policy says of an image at its registry.
    pub struct ImageVerification {
        "Name" name: String,
        /// Of what the name stands for.
        "Digest" digest: String,
        /// The policy's file; empty when there is none.
        "Policy" policy: String,
        /// Scope of its rule.
        "Rule" rule: String,
        /// `enforce` or `dry-run`.
        "Mode" mode: String,
        /// `accepted`, `would-refuse` or `refused`.
        "Outcome" outcome: String,
        "Reason" reason: String,
        "Signatures" signatures: Vec<SignatureCheck>,
    }
}

go_struct! {
    /// What one signer has to say to one signature.
    pub struct SignatureCheck {
        /// The document it was found at.
        "Digest" digest: String,
        /// `index`, `platform's manifest` or `manifest`.
        "Document" document: String,
        /// Digest of the signature's own content.
        "Place" place: String,
        /// `cosign`, `sigstore bundle` or `notation`.
        "Form" form: String,
        "Signer" signer: String,
        "Accepted" accepted: bool,
        /// Who made it, or why it does not count.
        "Detail" detail: String,
        "Warnings" warnings: Vec<String>,
    }
}

go_struct! {
    /// What differs between two images, of `GET /images/{name}/diff`, which Docker has nothing like.
    pub struct ImageDiff {
        "From" from: String,
        "To" to: String,
        "SharedLayers" shared_layers: i64,
        "Layers" layers: Vec<DiffItem>,
        "Config" config: Vec<DiffItem>,
        "Packages" packages: Vec<DiffItem>,
        "Files" files: Vec<DiffItem>,
    }
}

go_struct! {
    /// What refers to an image at its registry, of `GET /images/{name}/referrers`, which Docker has nothing like.
    pub struct ImageReferrers {
        "Subject" subject: String,
        "Referrers" referrers: Vec<ReferrerItem>,
    }
}

go_struct! {
    /// One of them.
    pub struct ReferrerItem {
        "MediaType" media_type: String,
        "Digest" digest: String,
        "Size" size: i64,
        "ArtifactType" artifact_type: String,
        "Annotations" annotations: BTreeMap<String, String>,
    }
}

go_struct! {
    /// One thing that differs; empty on the side that does not have it.
    pub struct DiffItem {
        "Name" name: String,
        "Change" change: String,
        "From" from: String,
        "To" to: String,
    }
}

go_struct! {
    /// Answer of `GET /distribution/{name}/manifest`, which Docker has nothing like.
    pub struct RegistryManifest {
        /// With the platform that the configuration tells, for a manifest of an image.
        "Descriptor" descriptor: Descriptor,
        /// The document in base64.
        "Raw" raw: String,
    }
}

go_struct! {
    /// Answer of `PUT /distribution/{name}/manifest`, which Docker has nothing like.
    pub struct PutManifest {
        "Digest" digest: String,
    }
}

go_struct! {
    /// Answer of `GET /distribution/{name}/json`.
    pub struct DistributionInspect {
        "Descriptor" descriptor: Descriptor,
        "Platforms" platforms: Vec<Platform>,
    }
}
