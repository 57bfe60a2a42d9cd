//! Lists of manifests as files, and the flags of the commands.

use super::*;

fn entry(name: &str, media_type: &str, os: &str) -> Entry {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let platform = Some(oci::Platform { os: os.into(), architecture: "amd64".into(), ..oci::Platform::default() });
    let descriptor = oci::Descriptor {
        media_type: media_type.into(),
        digest: format!("sha256:{}", "a".repeat(64)),
        size: 7,
        platform,
        ..oci::Descriptor::default()
    };
    Entry::new(name.into(), descriptor, STANDARD.encode("{ \"a\" : [ ] }\n")).unwrap()
}

#[test]
fn lists_are_kept_as_dockers_client_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let lists = Lists::new(dir.path());
    let (list, image) = (reference("reg:5000/team/list:1").unwrap(), reference("busybox").unwrap());
    assert!(lists.all(&list).unwrap().is_none() && lists.get(&list, &image).unwrap().is_none());
    lists.save(&list, &image, &entry("docker.io/library/busybox:latest", registry::OCI_MANIFEST, "linux")).unwrap();
    let path = dir.path().join("manifests/reg-5000_team_list-1/docker.io_library_busybox-latest");
    let digest = "a".repeat(64);
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        format!(
            r#"{{"Ref":"docker.io/library/busybox:latest","Descriptor":{{"mediaType":"{}","digest":"sha256:{digest}","size":7,"platform":{{"architecture":"amd64","os":"linux"}}}},"Raw":"eyAiYSIgOiBbIF0gfQo=","OCIManifest":{{"a":[]}}}}"#,
            registry::OCI_MANIFEST
        )
    );
    assert_eq!(lists.all(&list).unwrap().unwrap().len(), 1);
    std::fs::write(&path, "{").unwrap();
    let error = lists.all(&list).unwrap_err().to_string();
    assert!(error.contains("is no manifest of a list") && error.contains("manifest rm"), "{error}");
    assert!(lists.remove(&list).unwrap() && !lists.remove(&list).unwrap());
}

#[test]
fn a_list_is_of_its_first_manifests_kind_and_of_one_registry() {
    let list = reference("reg:5000/list").unwrap();
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let (kind, text) = assembled(&list, &[entry("reg:5000/a:1", docker, "linux<")]).unwrap();
    assert_eq!(kind, registry::DOCKER_LIST);
    assert!(
        text.starts_with("{\n   \"schemaVersion\": 2,\n   \"mediaType\": ") && text.contains("linux\\u003c"),
        "{text}"
    );
    let (kind, _) = assembled(&list, &[entry("reg:5000/a:1", registry::OCI_MANIFEST, "linux")]).unwrap();
    assert_eq!(kind, registry::OCI_INDEX);
    let error = assembled(&list, &[entry("busybox", docker, "linux")]).unwrap_err().to_string();
    assert!(error.contains("different registry than the target image: docker.io != reg:5000"), "{error}");
}
