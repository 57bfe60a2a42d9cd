//! What a conversion is told beside the Dockerfile: contexts, and what holds for every step. Frontends fill it from the
//! options of a request.

use std::collections::BTreeMap;

use buildkit::wire::llb;

/// Which stages do not use what the cache has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// All of them use it.
    #[default]
    None,
    /// None does.
    All,
    /// All but these, by name.
    Stages(Vec<String>),
}

impl NoCache {
    pub(super) fn covers(&self, stage: &str) -> bool {
        match self {
            NoCache::None => false,
            NoCache::All => true,
            NoCache::Stages(names) => names.iter().any(|name| name.eq_ignore_ascii_case(stage)),
        }
    }
}

/// Where the files of a context come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ContextSource {
    /// A directory of the client.
    Local(LocalSource),
    /// Anything else that a source operation can fetch.
    Other(OtherSource),
    /// What another build makes.
    Made(llb::Definition),
}

/// A directory of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalSource {
    /// What the client knows it by.
    pub name: String,
    /// Patterns of what is not sent.
    pub exclude: Vec<String>,
    /// The session that sends it; empty for the one that builds.
    pub session: String,
    /// What transfers of the same directory have in common; empty for none.
    pub shared_key_hint: String,
    /// What tells this transfer from all others; empty for nothing.
    pub unique: String,
}

/// A source of another kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherSource {
    /// As `git://…`, `https://…` or `docker-image://…`.
    pub identifier: String,
    /// Its attributes.
    pub attrs: BTreeMap<String, String>,
    /// The file in it that is an archive of the context; none when the files are there as they are.
    pub archive: Option<String>,
}

/// What a build is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Labels of the image, over those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// What the cache is not asked for.
    pub no_cache: NoCache,
    /// The network of commands that do not name one.
    pub network: llb::NetMode,
    /// Names that commands find besides those of their resolver.
    pub extra_hosts: Vec<llb::HostIp>,
    /// Host name of commands; empty for the builder's.
    pub hostname: String,
    /// Limits of commands.
    pub ulimits: Vec<llb::Ulimit>,
    /// Devices of every command.
    pub devices: Vec<llb::CdiDevice>,
    /// Control group above those of commands; empty for the builder's.
    pub cgroup_parent: String,
    /// Bytes of `/dev/shm` of commands.
    pub shm_size: Option<i64>,
    /// What COPY and ADD without `--from` take files from.
    pub context: ContextSource,
    /// Contexts by name. The plan has to know the names too.
    pub contexts: BTreeMap<String, ContextSource>,
    /// Time of everything that is made, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
    /// Names of steps say their platform.
    pub multi_platform: bool,
    /// The platform was asked for, so the image is for it whatever its base says.
    pub platform_requested: bool,
    /// How images are looked up: `pull`, `local`, or empty for the default.
    pub resolve_mode: String,
    /// What keeps caches of `RUN --mount=type=cache` apart from those of other builds.
    pub cache_namespace: String,
}

impl Default for Options {
    fn default() -> Self {
        let context = LocalSource { name: "context".to_owned(), ..LocalSource::default() };
        Self {
            labels: BTreeMap::new(),
            no_cache: NoCache::None,
            network: llb::NetMode::Unset,
            extra_hosts: Vec::new(),
            hostname: String::new(),
            ulimits: Vec::new(),
            devices: Vec::new(),
            cgroup_parent: String::new(),
            shm_size: None,
            context: ContextSource::Local(context),
            contexts: BTreeMap::new(),
            source_date_epoch: None,
            multi_platform: false,
            platform_requested: false,
            resolve_mode: String::new(),
            cache_namespace: String::new(),
        }
    }
}
