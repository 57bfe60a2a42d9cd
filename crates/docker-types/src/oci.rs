//! The few OCI image-spec structures the API shows as they are.

use crate::StringMap;
use crate::go::go_struct;

go_struct! {
    /// OCI content descriptor.
    pub struct Descriptor {
        "mediaType" media_type: String,
        "digest" digest: String,
        "size" size: i64,
        "urls" / "crate::go::omit" urls: Vec<String>,
        "annotations" / "crate::go::omit" annotations: StringMap,
        "platform" / "crate::go::omit" platform: Option<Platform>,
        "artifactType" / "crate::go::omit" artifact_type: String,
    }
}

go_struct! {
    /// OCI platform, as the `platform` query parameter and descriptors carry it.
    pub struct Platform {
        "architecture" architecture: String,
        "os" os: String,
        "os.version" / "crate::go::omit" os_version: String,
        "os.features" / "crate::go::omit" os_features: Vec<String>,
        "variant" / "crate::go::omit" variant: String,
    }
}

impl From<&types::Platform> for Platform {
    fn from(p: &types::Platform) -> Platform {
        Platform { architecture: p.arch.clone(), os: p.os.clone(), variant: p.variant.clone(), ..Platform::default() }
    }
}

impl From<&Platform> for types::Platform {
    fn from(p: &Platform) -> types::Platform {
        types::Platform::new(&p.os, &p.architecture, &p.variant)
    }
}
