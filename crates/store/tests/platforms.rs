//! Images for several platforms in archives: what is saved of them, what is loaded, and what is unpacked.

mod common;

use std::collections::BTreeSet;

use common::{Scratch, Tar, members, root, scratch, sha256, tar};
use store::Error;
use store::image::{Form, Saved, load, save};
use store::model::{Descriptor, Image, Manifest, RootFs, media_type};
use types::{DiffId, Digest, Platform};

/// A layer of one file.
fn layer(text: &str) -> Vec<u8> {
    tar().file("file", text.as_bytes()).bytes()
}

fn diff_id(text: &str) -> DiffId {
    DiffId(sha256(&layer(text)))
}

/// An index of images for these platforms, each with a layer that says which, and an attestation of the first.
struct Made {
    index: Descriptor,
    manifests: Vec<Descriptor>,
    blobs: Vec<Vec<u8>>,
}

fn made(platforms: &[&str]) -> Made {
    let mut blobs = Vec::new();
    let mut keep = |media_type: &str, bytes: Vec<u8>| {
        let descriptor = Descriptor::new(media_type, sha256(&bytes), bytes.len() as u64);
        blobs.push(bytes);
        descriptor
    };
    let mut manifests = Vec::new();
    for text in platforms {
        let platform: Platform = text.parse().unwrap();
        let rootfs = RootFs { diff_ids: vec![diff_id(text)], ..RootFs::default() };
        let (os, architecture) = (platform.os.clone(), platform.arch.clone());
        let config = Image { os, architecture, rootfs, ..Image::default() }.to_bytes().unwrap();
        let config = keep(media_type::OCI_CONFIG, config);
        let layer = keep(media_type::OCI_LAYER, layer(text));
        let manifest = keep(media_type::OCI_MANIFEST, Manifest::new(config, vec![layer]).to_bytes().unwrap());
        manifests.push(Descriptor { platform: Some(platform), ..manifest });
    }
    let config = keep(
        media_type::OCI_CONFIG,
        br#"{"os":"unknown","architecture":"unknown","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec(),
    );
    let statement = keep("application/vnd.in-toto+json", b"{\"a\":1}".to_vec());
    let mut attestation = keep(media_type::OCI_MANIFEST, Manifest::new(config, vec![statement]).to_bytes().unwrap());
    attestation.annotations = Some(
        [
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ("vnd.docker.reference.digest".to_owned(), manifests[0].digest.to_string()),
        ]
        .into(),
    );
    let mut entries = manifests.clone();
    entries.push(attestation);
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":{}}}"#,
        media_type::OCI_INDEX,
        serde_json::to_string(&entries).unwrap()
    );
    let index = keep(media_type::OCI_INDEX, text.into_bytes());
    Made { index, manifests, blobs }
}

impl Made {
    /// An archive of it, without these blobs.
    fn archive(&self, missing: &[Digest]) -> Vec<u8> {
        let top = serde_json::to_string(&[&self.index]).unwrap();
        let mut out: Tar = tar()
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", format!(r#"{{"schemaVersion":2,"manifests":{top}}}"#).as_bytes());
        for blob in self.blobs.iter().filter(|blob| !missing.contains(&sha256(blob))) {
            out = out.file(&format!("blobs/sha256/{}", sha256(blob).hex()), blob);
        }
        out.bytes()
    }
}

fn loaded(made: &Made, platforms: &[&str]) -> Result<(Scratch, bool), Error> {
    let scratch = scratch();
    let platforms: Vec<Platform> = platforms.iter().map(|text| text.parse().unwrap()).collect();
    let ingest = scratch.store.ingest();
    let loaded = load(&ingest, &made.archive(&[])[..], &platforms)?;
    assert_eq!((loaded.len(), loaded[0].target.digest), (1, made.index.digest));
    ingest.commit().unwrap();
    drop(ingest);
    Ok((scratch, loaded[0].unpacked))
}

const ALL: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/s390x", "windows/amd64"];

/// The layers of these platforms that are unpacked, and whose blobs are here.
fn here(scratch: &Scratch) -> (Vec<&'static str>, Vec<&'static str>) {
    let unpacked = ALL.into_iter().filter(|text| scratch.store.layers().has(&diff_id(text)));
    let kept = ALL.into_iter().filter(|text| scratch.store.blobs().has(&diff_id(text).0));
    (unpacked.collect(), kept.collect())
}

#[test]
fn a_load_takes_every_platform_or_those_asked_for() {
    if !root() {
        return;
    }
    let made = made(&ALL);
    let (scratch, unpacked) = loaded(&made, &[]).unwrap();
    assert!(unpacked);
    assert_eq!(here(&scratch), (ALL[..3].to_vec(), ALL.to_vec()), "another system's layers are kept as they came");
    assert!(scratch.store.blobs().has(&sha256(b"{\"a\":1}")), "and so is what is attested");
    let (scratch, unpacked) = loaded(&made, &["linux/arm64", "s390x"]).unwrap();
    assert!(unpacked);
    assert_eq!(here(&scratch), (ALL[1..3].to_vec(), ALL[1..3].to_vec()));
    let (scratch, unpacked) = loaded(&made, &["windows/amd64"]).unwrap();
    assert_eq!((unpacked, here(&scratch)), (false, (Vec::new(), vec!["windows/amd64"])));
    let error = loaded(&made, &["linux/riscv64"]).err().unwrap();
    assert!(matches!(error, Error::NotLoaded(_)), "{error}");
    assert!(error.to_string().contains("linux/riscv64"), "{error}");
}

#[test]
fn what_is_incomplete_is_refused_only_where_it_is_needed() {
    if !root() {
        return;
    }
    let made = made(&["linux/amd64", "linux/arm64"]);
    let host = Platform::host().to_string();
    let other = if host == "linux/amd64" { "linux/arm64" } else { "linux/amd64" };
    let try_load = |missing: &str, platforms: &[Platform]| {
        let scratch = scratch();
        let ingest = scratch.store.ingest();
        let result = load(&ingest, &made.archive(&[diff_id(missing).0])[..], platforms);
        result.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(try_load(other, &[]), Ok(()));
    let error = format!("layer {} is missing", diff_id(&host).0);
    assert!(try_load(&host, &[]).unwrap_err().contains(&error));
    let error = format!("layer {} is missing", diff_id(other).0);
    assert!(try_load(other, &[other.parse().unwrap()]).unwrap_err().contains(&error));
}

#[test]
fn a_save_has_everything_or_what_is_chosen() {
    if !root() {
        return;
    }
    let made = made(&ALL);
    let (scratch, _) = loaded(&made, &[]).unwrap();
    let written = |target: &Descriptor, only: Option<&[usize]>| {
        let only = only.map(|only| only.iter().map(|at| made.manifests[*at].digest).collect::<BTreeSet<_>>());
        let saved = [Saved {
            target: target.clone(),
            references: vec!["multi:1".parse().unwrap()],
            only,
            annotations: Default::default(),
        }];
        let mut archive = Vec::new();
        save(&*scratch.store, &saved, &Platform::host(), Form::Docker, &mut archive).unwrap();
        let names: BTreeSet<String> = members(&archive).into_iter().map(|(name, _)| name).collect();
        (archive, names)
    };
    let has = |names: &BTreeSet<String>, digest: Digest| names.contains(&format!("blobs/sha256/{}", digest.hex()));
    let (archive, names) = written(&made.index, None);
    assert!(made.blobs.iter().all(|blob| has(&names, sha256(blob))), "all that is here");
    assert!(names.contains("manifest.json"), "for older readers, this host's");
    let again = common::scratch();
    load(&again.store.ingest(), &archive[..], &[]).unwrap();

    let (_, names) = written(&made.index, Some(&[1, 2]));
    let layers: Vec<&str> = ALL.into_iter().filter(|text| has(&names, diff_id(text).0)).collect();
    assert_eq!(layers, ALL[1..3]);
    assert!(has(&names, made.index.digest), "the index stays as it is");
    let (archive, names) = written(&made.manifests[1], None);
    assert!(!has(&names, made.index.digest) && has(&names, made.manifests[1].digest));
    let ingest = again.store.ingest();
    let loaded = load(&ingest, &archive[..], &[]).unwrap();
    assert_eq!((loaded[0].target.digest, loaded[0].unpacked), (made.manifests[1].digest, true));
}
