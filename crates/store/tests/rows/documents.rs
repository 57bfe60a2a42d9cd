//! Manifests and indexes: what they lead to, how they are written, digests and sizes in them, and the platform they say
//! they are for.

use store::Error;
use store::image::resolve;
use store::model::{Descriptor, Document, Image, Manifest, RootFs, media_type};
use types::{DiffId, Platform};

use crate::common::{formats, root, scratch_with, sha256, tar};
use crate::layout::{Layout, One, Row, bytes, image_of, images, loads, one, reason, refuse};

const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

fn descriptor(digest: &str, size: &str) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","size":{size},"digest":"{digest}"}}"#)
}

fn manifest(layers: &str) -> String {
    format!(r#"{{"schemaVersion":2,"config":{},"layers":[{layers}]}}"#, descriptor(EMPTY, "2"))
}

/// Documents as they are parsed, from a registry or an archive.
#[test]
fn documents() {
    let (good, part) = (manifest(&descriptor(EMPTY, "2")), descriptor(EMPTY, "2"));
    let index = |entries: &str| format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#);
    assert!(Document::parse(good.as_bytes(), "").is_ok() && Document::parse(index(&part).as_bytes(), "").is_ok());
    let sized = |size: &str| manifest(&descriptor(EMPTY, size));
    let digested = |digest: &str| manifest(&descriptor(digest, "2"));
    let with = |key: &str| good.replacen('{', &format!("{{{key},"), 1);
    let half = &EMPTY[..70];
    let keys: Vec<String> = (0..200_000).map(|key| format!(r#""{key}":1"#)).collect();
    let rows: Vec<(&str, &str, Vec<u8>)> = vec![
        ("size -1", "invalid value", sized("-1").into()),
        ("size 2^64", "invalid", sized("18446744073709551616").into()),
        ("a size with a fraction", "invalid type", sized("1.5").into()),
        ("a size as text", "invalid type", sized(r#""2""#).into()),
        ("size 1e400", "number out of range", sized("1e400").into()),
        ("size NaN", "expected value", sized("NaN").into()),
        ("a digest in upper case", "digest", digested(&EMPTY.to_uppercase().replace("SHA", "sha")).into()),
        ("an algorithm in upper case", "digest", digested(&EMPTY.replace("sha", "SHA")).into()),
        ("half a digest", "digest length", digested(half).into()),
        ("a digest of no characters", "digest", digested("sha256:").into()),
        ("no digest", "digest", digested("").into()),
        ("sha512", "unsupported digest algorithm", digested(&format!("sha512:{}", "0".repeat(128))).into()),
        ("an unknown algorithm", "unsupported digest algorithm", digested(&EMPTY.replace("sha256", "md4")).into()),
        ("a path in a digest", "digest", digested("sha256:../../x").into()),
        ("a path for a digest", "digest", digested("../../../etc/shadow").into()),
        ("a digest with a newline", "digest", digested(&format!("{EMPTY}\\n")).into()),
        ("layers and manifests", "both layers and manifests", with(r#""manifests":[]"#).into()),
        ("neither", "neither layers nor manifests", br#"{"schemaVersion":2}"#.to_vec()),
        ("a key twice", "duplicate key", index(&part).replacen('{', r#"{"manifests":[],"#, 1).into()),
        ("a key twice deep down", "duplicate key", with(r#""annotations":{"a":"1","a":"2"}"#).into()),
        ("a key twice, once escaped", "duplicate key", with(r#""x":1,"\u0078":2"#).into()),
        ("a key in another case", "in case only", with(r#""Layers":[]"#).into()),
        (
            "a key of a descriptor in another case",
            "in case only",
            good.replace(r#""size":2"#, r#""SIZE":3,"size":2"#).into(),
        ),
        (
            "a media type of something else",
            "not of its type",
            with(r#""mediaType":"application/vnd.oci.image.index.v1+json""#).into(),
        ),
        ("the first schema", "not supported", br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec()),
        ("the first schema in disguise", "not supported", with(r#""fsLayers":[]"#).into()),
        ("no schema", "schemaVersion", good.replace(r#""schemaVersion":2,"#, "").into()),
        ("another schema", "schemaVersion", good.replace(":2,\"config", ":3,\"config").into()),
        ("bytes behind the document", "trailing characters", format!("{good} x").into()),
        ("two documents", "trailing characters", format!("{good}{good}").into()),
        ("a mark of byte order", "expected value", format!("\u{feff}{good}").into()),
        ("UTF-16", "key must be", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a lone surrogate", "hex escape", with(r#""x":"\ud800""#).into()),
        ("no UTF-8", "unicode", [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xff\"}"].concat()),
        ("a comment", "expected", format!("/* */{good}").into()),
        ("larger than 4 MiB", "larger than", [good.as_bytes(), &vec![b' '; 4 << 20]].concat()),
        (
            "deep lists",
            "recursion limit",
            with(&format!(r#""x":{}{}"#, "[".repeat(100_000), "]".repeat(100_000))).into(),
        ),
        ("deep objects", "recursion limit", with(&format!(r#""x":{}"#, r#"{"a":"#.repeat(100_000))).into()),
        ("a list", "an array where an object", b"[2]".to_vec()),
        ("nothing", "EOF", Vec::new()),
        ("layers without end", "more than 500 layers", manifest(&vec![part.as_str(); 20_000].join(",")).into()),
        ("manifests without end", "more than 10000 manifests", index(&vec![part.as_str(); 20_000].join(",")).into()),
        ("an annotation that is no text", "invalid type", with(r#""annotations":{"a":{}}"#).into()),
    ];
    for (what, words, bytes) in rows {
        let reason = reason(Document::parse(&bytes, "")).unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(
            reason.to_lowercase().contains(&words.to_lowercase()),
            "{what} was refused for another reason: {reason}"
        );
        assert!(reason.len() < 1024, "{what}: {} bytes of error", reason.len());
    }
    // Two hundred thousand keys are many, but only that.
    assert!(Document::parse(with(&format!(r#""x":{{{}}}"#, keys.join(","))).as_bytes(), "").is_ok());
    let declared = Document::parse(
        with(r#""mediaType":"application/vnd.oci.image.manifest.v1+json""#).as_bytes(),
        media_type::DOCKER_MANIFEST,
    );
    assert!(declared.unwrap_err().to_string().contains("offered as"));
}

/// One image with these layers and diff ids.
fn image(layers: &[Vec<u8>], diff_ids: &[DiffId]) -> Vec<u8> {
    let mut layout = Layout::default();
    let layers = layers.iter().map(|bytes| layout.blob(media_type::OCI_LAYER_GZIP, bytes)).collect();
    let rootfs = RootFs { diff_ids: diff_ids.to_vec(), ..RootFs::default() };
    let host = Platform::host();
    let config = Image { os: host.os, architecture: host.arch, rootfs, ..Image::default() }.to_bytes().unwrap();
    let config = layout.blob(media_type::OCI_CONFIG, &config);
    let manifest = Manifest::new(config, layers).to_bytes().unwrap();
    let manifest = layout.blob(media_type::OCI_MANIFEST, &manifest);
    bytes(&layout, vec![manifest])
}

#[test]
fn layers_of_an_image() {
    images("documents::layers_of_an_image", |_| {
        let (one, other, empty) = (tar().file("f", b"1").bytes(), tar().file("f", b"2").bytes(), tar().bytes());
        let id = |bytes: &Vec<u8>| DiffId(sha256(bytes));
        let packed = zstd::encode_all(&one[..], 1).unwrap();
        let many: Vec<Vec<u8>> = vec![empty.clone(); 501];
        let unpacked = |images: &[store::image::Loaded]| assert!(images[0].unpacked);
        vec![
            loads("two layers", image(&[one.clone(), other.clone()], &[id(&one), id(&other)]), unpacked),
            loads("zstd that is called gzip", image(std::slice::from_ref(&packed), &[id(&one)]), unpacked),
            loads("the same layer twice", image(&[one.clone(), one.clone()], &[id(&one), id(&one)]), unpacked),
            loads("no layer", image(&[], &[]), unpacked),
            loads("empty layers", image(&[empty.clone(), empty.clone(), empty.clone()], &[id(&empty); 3]), unpacked),
            refuse("another layer", "digest mismatch", image(std::slice::from_ref(&one), &[id(&other)])),
            refuse(
                "layers in the wrong order",
                "digest mismatch",
                image(&[one.clone(), other.clone()], &[id(&other), id(&one)]),
            ),
            refuse(
                "the digest of what is compressed",
                "digest mismatch",
                image(std::slice::from_ref(&packed), &[id(&packed)]),
            ),
            refuse("a layer more", "1 diff_ids for 2 layers", image(&[one.clone(), other], &[id(&one)])),
            refuse(
                "a diff id more",
                "2 diff_ids for 1 layers",
                image(std::slice::from_ref(&one), &[id(&one), id(&one)]),
            ),
            refuse("layers without end", "more than 500 layers", image(&many, &vec![id(&empty); 501])),
            refuse("a layer that is none", "tar header", image(&[vec![7; 2000]], &[id(&vec![7; 2000])])),
        ]
    });
}

/// Raw documents in a layout.
#[test]
fn documents_of_a_layout() {
    images("documents::documents_of_a_layout", |_| {
        let One { layout, manifest, .. } = one();
        let text = String::from_utf8(layout.0[&format!("blobs/sha256/{}", manifest.digest.hex())].clone()).unwrap();
        let with = |text: String, media_type: &str| {
            let mut layout = layout.clone();
            let entry = layout.blob(media_type, text.as_bytes());
            bytes(&layout, vec![entry])
        };
        let oci = media_type::OCI_MANIFEST;
        let urls =
            text.replace(r#""layers":[{"#, r#""layers":[{"urls":["file:///etc/shadow","http://127.0.0.1:1/x"],"#);
        let foreign = text.replace(media_type::OCI_LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar");
        let subject = text.replacen('{', &format!(r#"{{"subject":{},"#, serde_json::to_string(&manifest).unwrap()), 1);
        let label = |value: &str| {
            text.replacen('{', &format!(r#"{{"annotations":{{"org.opencontainers.image.ref.name":{value}}},"#), 1)
        };
        let attested = Descriptor {
            annotations: Some([("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())].into()),
            ..manifest.clone()
        };
        let named = |name: &str| {
            let annotations = Some([("io.containerd.image.name".to_owned(), name.to_owned())].into());
            bytes(&layout, vec![Descriptor { annotations, ..manifest.clone() }])
        };
        let mut rows: Vec<Row> = vec![
            loads("addresses of layers are not followed", with(urls, oci), |images| assert!(images[0].unpacked)),
            loads("layers not to be handed on", with(foreign, oci), |images| assert!(images[0].unpacked)),
            loads("a subject is no image", with(subject, oci), |images| assert_eq!(images.len(), 1)),
            loads("annotations are no names", with(label(r#""\u001b]0;x\u0007/x:y""#), oci), |images| {
                assert!(images[0].reference.is_none())
            }),
            refuse("a manifest that is called an index", "offered as", with(text.clone(), media_type::OCI_INDEX)),
            refuse("a manifest of another kind", "names no image", with(text.clone(), "application/vnd.example")),
            refuse(
                "a first schema",
                "names no image",
                with(text.clone(), "application/vnd.docker.distribution.manifest.v1+prettyjws"),
            ),
            refuse("nothing but an attestation", "names no image", bytes(&layout, vec![attested])),
            refuse(
                "a layer of an unknown type",
                "unsupported type",
                with(text.replace(media_type::OCI_LAYER, "text/html"), oci),
            ),
        ];
        for name in [
            "../../etc",
            "a b",
            "A/B:c",
            "\u{1b}[2J",
            "x@sha256:short",
            "registry.example/../x:y",
            "\u{202e}x",
            "",
            &"n/".repeat(200),
        ] {
            rows.push(refuse(format!("an image called {name:?}"), "image name", named(name)));
        }
        rows
    });
}

/// A cycle of indexes cannot be made without breaking SHA-256; a blob that is said to be one of them is looked at.
#[test]
fn indexes_that_lead_back() {
    images("documents::indexes_that_lead_back", |_| {
        let One { mut layout, manifest, .. } = one();
        let inner = layout.index(vec![manifest.clone()]);
        let name = format!("blobs/sha256/{}", inner.digest.hex());
        let outer = layout.index(vec![inner.clone()]);
        let bytes_of = layout.0[&format!("blobs/sha256/{}", outer.digest.hex())].clone();
        layout.0.insert(name, bytes_of);
        vec![refuse("an index in the place of another", "digest mismatch", bytes(&layout, vec![outer]))]
    });
}

#[test]
fn platforms() {
    if !root() {
        return;
    }
    for format in formats() {
        let scratch = scratch_with(format);
        let host = Platform::host();
        let resolved = |entries: Vec<(Option<Platform>, Descriptor)>, layout: &Layout| {
            let mut layout = layout.clone();
            let entries = entries.into_iter().map(|(platform, entry)| Descriptor { platform, ..entry }).collect();
            let index = layout.index(entries);
            let ingest = scratch.store.ingest();
            for bytes in layout.0.values() {
                ingest.document(bytes, None).unwrap();
            }
            resolve(&ingest, &index, &host)
        };
        let One { mut layout, manifest: mine, layer, .. } = one();
        let config = image_of(&[layer.digest]);
        let text = String::from_utf8(config).unwrap();
        let other = text.replace(&format!(r#""architecture":"{}""#, host.arch), r#""architecture":"s390x""#);
        assert_ne!(other, text);
        let config = layout.blob(media_type::OCI_CONFIG, other.as_bytes());
        let theirs = Manifest::new(config, vec![layer]).to_bytes().unwrap();
        let theirs = layout.blob(media_type::OCI_MANIFEST, &theirs);
        let strange = |arch: &str| Some(Platform::new("linux", arch, ""));
        // Ten thousand others, and this machine's last.
        let mut entries: Vec<_> = (0..9_999).map(|at| (strange(&format!("arch{at}")), theirs.clone())).collect();
        entries.push((Some(host.clone()), mine.clone()));
        assert_eq!(resolved(entries, &layout).unwrap().target.digest, mine.digest);
        // Without a platform the configuration says it.
        let found = resolved(vec![(None, theirs.clone()), (None, mine.clone())], &layout).unwrap();
        assert_eq!(found.target.digest, mine.digest);
        for platform in
            [strange("s390x"), Some(Platform::new("windows", &host.arch, "")), strange(""), strange(&"x".repeat(1000))]
        {
            let error = resolved(vec![(platform, theirs.clone())], &layout).unwrap_err();
            assert!(matches!(error, Error::NoPlatform(_)), "{error}");
        }
    }
}
