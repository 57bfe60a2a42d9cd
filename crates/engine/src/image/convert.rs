//! An image's configuration, from the form it is stored in to the API's and back. Called where images are shown and made.

use std::collections::BTreeMap;

use docker_types::StrSlice;
use docker_types::container::HealthConfig;
use docker_types::image::ImageConfig;
use store::model;

/// The configuration in the API's form.
pub(crate) fn to_api(config: &model::ImageConfig) -> ImageConfig {
    let set = |map: &Option<BTreeMap<String, model::Empty>>| {
        map.as_ref().map(|map| map.keys().map(|key| (key.clone(), docker_types::Empty {})).collect())
    };
    let words = |list: &Option<Vec<String>>| list.clone().map(StrSlice);
    ImageConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: words(&config.entrypoint),
        cmd: words(&config.cmd),
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.as_ref().map(|check| HealthConfig {
            test: check.test.clone().unwrap_or_default(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build.clone(),
        shell: words(&config.shell),
    }
}

/// The API's form as it is stored.
pub(crate) fn from_api(config: &ImageConfig) -> model::ImageConfig {
    let set = |map: &Option<BTreeMap<String, docker_types::Empty>>| {
        map.as_ref().map(|map| map.keys().map(|key| (key.clone(), model::Empty {})).collect())
    };
    let words = |list: &Option<StrSlice>| list.clone().map(|list| list.0);
    model::ImageConfig {
        user: config.user.clone(),
        exposed_ports: set(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: words(&config.entrypoint),
        cmd: words(&config.cmd),
        args_escaped: config.args_escaped,
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        healthcheck: config.healthcheck.as_ref().map(|check| model::Healthcheck {
            test: Some(check.test.clone()).filter(|test| !test.is_empty()),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build.clone(),
        shell: words(&config.shell),
        stop_timeout: None,
    }
}
