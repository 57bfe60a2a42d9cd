//! `docker images`: every image with its names, newest first.

use std::collections::HashMap;
use std::time::SystemTime;

use docker_types::image::ImageSummary;
use types::{Digest, Filters, Reference};

use super::Images;
use super::content::{Image, oci_descriptor, signed};
use super::index::Names;
use super::pattern;
use crate::engine::Inner;
use crate::error::{Result, fail};
use crate::facade::ImageListOptions;

const FILTERS: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

/// Containers by the image they were made from: ids of all of them.
pub(super) fn containers_by_image(inner: &Inner) -> HashMap<String, Vec<(String, String)>> {
    let mut map: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for container in inner.containers.all() {
        let record = container.record();
        let manifest = record.manifest.as_ref().map(|m| m.digest.clone()).unwrap_or_default();
        map.entry(record.image_id.clone()).or_default().push((record.id.clone(), manifest));
    }
    map
}

impl Images {
    /// Images that match.
    ///
    /// # Errors
    /// Invalid for an unknown filter or a value that makes no sense.
    pub(crate) fn list(&self, inner: &Inner, options: &ImageListOptions) -> Result<Vec<ImageSummary>> {
        let filters = &options.filters;
        let test = Test::new(self, filters)?;
        let (images, names) = {
            let index = self.index();
            (index.images(), index.names())
        };
        let containers = containers_by_image(inner);
        let none = Names::default();
        let mut newest_first = images.clone();
        newest_first.sort_by_cached_key(|image| (std::cmp::Reverse(image.created()), image.id()));
        let mut out: Vec<ImageSummary> = newest_first
            .iter()
            .filter_map(|image| {
                let names = test.pass(image, names.get(&image.id()).unwrap_or(&none))?;
                let users = || containers.get(&image.id().to_string()).map_or(&[][..], Vec::as_slice);
                let users = if containers.is_empty() { &[][..] } else { users() };
                Some(summary(image, &names, users, options.manifests))
            })
            .collect();
        if options.shared_size {
            super::usage::fill_shared(&mut out, &images);
        }
        Ok(out)
    }
}

/// An image as lists show it.
pub(super) fn summary(image: &Image, names: &Names, users: &[(String, String)], manifests: bool) -> ImageSummary {
    let of_manifest = |digest: &Digest| {
        let digest = digest.to_string();
        users.iter().filter(|(_, manifest)| *manifest == digest).map(|(id, _)| id.clone()).collect()
    };
    ImageSummary {
        containers: signed(users.len() as u64),
        created: image.created().0,
        id: image.id().to_string(),
        labels: image.labels().cloned(),
        descriptor: Some(oci_descriptor(&image.target, None)),
        manifests: if manifests { image.manifest_summaries(&of_manifest) } else { Vec::new() },
        repo_digests: names.digests(image.id()),
        repo_tags: names.tags(),
        shared_size: -1,
        size: signed(image.size()),
        ..ImageSummary::default()
    }
}

/// Filters, read once.
struct Test<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    before: Option<(i64, u32)>,
    since: Option<(i64, u32)>,
    until: Option<(i64, u32)>,
}

impl<'a> Test<'a> {
    fn new(images: &Images, filters: &'a Filters) -> Result<Self> {
        if let Some(key) = filters.unknown_key(FILTERS) {
            return Err(fail!(Invalid, "invalid filter '{key}'"));
        }
        let dangling = match filters.contains("dangling") {
            false => None,
            true => Some(filters.boolean("dangling", false).map_err(|values| bad_value("dangling", &values))?),
        };
        let created = |key: &str| -> Result<Option<(i64, u32)>> {
            let found = filters.get(key).map(|name| Ok(images.index().find(name)?.image.created()));
            // Several: the one that leaves most out, as all of them must hold.
            found.collect::<Result<Vec<_>>>().map(|all| match key {
                "before" => all.into_iter().min(),
                _ => all.into_iter().max(),
            })
        };
        Ok(Self { filters, dangling, before: created("before")?, since: created("since")?, until: until(filters)? })
    }

    /// The names to show of an image that passes.
    fn pass(&self, image: &Image, names: &Names) -> Option<Names> {
        let unnamed = names.references.is_empty();
        let label = |key: &str| image.labels()?.get(key).map(String::as_str);
        let without = |want: &str| match want.split_once('=') {
            Some((key, value)) => label(key) != Some(value),
            None => label(want).is_none(),
        };
        let created = image.created();
        let passes = self.dangling.is_none_or(|wanted| wanted == unnamed)
            && self.before.is_none_or(|limit| created < limit)
            && self.since.is_none_or(|limit| created > limit)
            && self.until.is_none_or(|limit| created < limit)
            && self.filters.match_labels("label", label)
            && self.filters.get("label!").all(without);
        if !passes {
            return None;
        }
        let mut names = names.clone();
        if self.filters.contains("reference") {
            names.references.retain(|name| self.filters.get("reference").any(|want| familiar_match(want, name)));
            if names.references.is_empty() {
                return None;
            }
        }
        Some(names)
    }
}

/// The `until` filter in seconds since the epoch and nanoseconds; of several the earliest.
pub(super) fn until(filters: &Filters) -> Result<Option<(i64, u32)>> {
    let now = SystemTime::now();
    let parse = |text: &str| {
        docker_types::time::parse_when(text, now).map_err(|e| fail!(Invalid, "invalid filter 'until=[{text}]': {e}"))
    };
    Ok(filters.get("until").map(parse).collect::<Result<Vec<_>>>()?.into_iter().min())
}

pub(super) fn bad_value(key: &str, values: &[String]) -> crate::Error {
    fail!(Invalid, "invalid filter '{key}=[{}]'", values.join(" "))
}

/// A pattern against the name as people write it, with and without the tag.
fn familiar_match(want: &str, name: &Reference) -> bool {
    pattern::matches(want, &name.familiar()) || pattern::matches(want, &name.familiar_name())
}
