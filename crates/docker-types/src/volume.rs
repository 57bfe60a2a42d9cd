//! Volumes.

use crate::StringMap;
use crate::go::go_struct;

go_struct! {
    /// A volume, in lists and by itself.
    pub struct Volume {
        "CreatedAt" / "crate::go::omit" created_at: String,
        "Driver" driver: String,
        "Labels" labels: Option<StringMap>,
        "Mountpoint" mountpoint: String,
        "Name" name: String,
        "Options" options: Option<StringMap>,
        "Scope" scope: String,
        "Status" / "crate::go::omit" status: Option<serde_json::Value>,
        "UsageData" / "crate::go::omit" usage_data: Option<VolumeUsageData>,
    }
}

go_struct! {
    /// References and bytes of a volume, -1 where unknown; only in disk usage.
    pub struct VolumeUsageData {
        "RefCount" ref_count: i64,
        "Size" size: i64,
    }
}

go_struct! {
    /// Answer of `GET /volumes`.
    pub struct VolumeList {
        "Volumes" volumes: Vec<Volume>,
        "Warnings" warnings: Option<Vec<String>>,
    }
}

go_struct! {
    /// Body of `POST /volumes/create`.
    pub struct VolumeCreateBody {
        "Driver" / "crate::go::omit" driver: String,
        "DriverOpts" / "crate::go::omit" driver_opts: Option<StringMap>,
        "Labels" / "crate::go::omit" labels: Option<StringMap>,
        "Name" / "crate::go::omit" name: String,
    }
}

go_struct! {
    /// Body of `POST /volumes/{name}/clone` and `/snapshot`, which are ours alone.
    pub struct VolumeCopyBody {
        "Name" / "crate::go::omit" name: String,
        "Labels" / "crate::go::omit" labels: Option<StringMap>,
    }
}

go_struct! {
    /// Answer of `POST /volumes/prune`.
    pub struct VolumePruneReport {
        "VolumesDeleted" volumes_deleted: Vec<String>,
        "SpaceReclaimed" space_reclaimed: u64,
    }
}
