//! Documents of images: what is accepted is within its bounds, and is the same when it is written and parsed again.

use store::model::{Document, Image};

/// A manifest or index of a type nobody has said.
pub fn manifest(data: &[u8]) {
    match Document::parse(data, "") {
        Ok(Document::Manifest(manifest)) => {
            let bytes = manifest.to_bytes().expect("what was parsed can be written");
            assert_eq!(
                Document::parse(&bytes, "").expect("what was written can be parsed"),
                Document::Manifest(manifest)
            );
        }
        Ok(Document::Index(index)) => assert!(index.manifests.len() <= 10_000),
        Err(error) => drop(error.to_string()),
    }
}

/// The configuration of an image.
pub fn image_config(data: &[u8]) {
    match Image::parse(data) {
        Ok(image) => {
            let config = &image.config;
            let texts = [&config.env, &config.cmd, &config.entrypoint, &config.shell];
            assert!(texts.into_iter().flatten().flatten().all(|text| !text.contains('\0')));
            assert!(config.env.iter().flatten().all(|item| item.find('=').is_some_and(|at| at > 0)));
            let bytes = image.to_bytes().expect("what was parsed can be written");
            assert_eq!(Image::parse(&bytes).expect("what was written can be parsed"), image);
        }
        Err(error) => drop(error.to_string()),
    }
}
