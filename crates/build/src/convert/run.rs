//! RUN: one command in the stage's files, with the environment, mounts and confinement it asks for.

use buildkit::wire::llb;
use dockerfile::{MountKind, Network, Run, Script, Security, Step};

use super::error::ConvertError;
use super::graph::{About, Inputs, Output};
use super::mounts::Mounts;
use super::name::{capitals, expanded, summary};
use super::stage::{Converter, Stage, shell, written};

/// Where documents are that are commands.
const PIPES: &str = "/dev/pipes/";

impl Converter<'_> {
    pub(super) fn command(&mut self, stage: &mut Stage, step: &Step, run: &Run) -> Result<(), ConvertError> {
        let mut inputs = Inputs::default();
        let root =
            llb::Mount { input: inputs.add_or_empty(stage.output), dest: "/".to_owned(), ..llb::Mount::default() };
        let mut mounts = Mounts::new(root);
        let args = match run.script() {
            Script::Exec(words) => words,
            Script::Shell(line) => shelled(stage, line),
            Script::File { name, content } => {
                let file = self.document(&name, 0o755, content.into_bytes())?;
                mounts.bind(inputs.add(file), PIPES.to_owned());
                // The file is an argument of the shell, since the instruction has the shell's form.
                shelled(stage, format!("{PIPES}{}", name.trim_start_matches('/')))
            }
        };
        self.mounts(stage, step, &mut inputs, &mut mounts)?;
        let options = self.input.options;
        if let Some(size) = options.shm_size.filter(|size| *size > 0) {
            mounts.tmpfs("/dev/shm".to_owned(), size);
        }
        let mut env = stage.seen.items();
        if let (Some(socket), None) = (&mounts.agent, stage.seen.get("SSH_AUTH_SOCK")) {
            env.push(format!("SSH_AUTH_SOCK={socket}"));
        }
        let title = self.command_title(stage, step, run);
        let about = About {
            name: stage.step_name(&title),
            command: Some(written(step).to_owned()),
            ignore_cache: stage.ignore_cache,
            lines: Some(step.statement.lines),
            ..About::default()
        };
        let meta = llb::Meta {
            args: args.clone(),
            env,
            cwd: stage.directory().to_owned(),
            user: stage.config.user.clone(),
            proxy_env: self.proxies(),
            extra_hosts: options.extra_hosts.clone(),
            hostname: options.hostname.clone(),
            ulimit: options.ulimits.clone(),
            cgroup_parent: options.cgroup_parent.clone(),
            remove_mount_stubs_recursive: true,
            valid_exit_codes: Vec::new(),
        };
        let devices = run
            .devices
            .iter()
            .map(|device| llb::CdiDevice { name: device.name.text.clone(), optional: !device.required });
        let network = match run.network {
            Network::Default => options.network,
            Network::None => llb::NetMode::None,
            Network::Host => llb::NetMode::Host,
        };
        let security = match run.security {
            Security::Sandbox => llb::SecurityMode::Sandbox,
            Security::Insecure => llb::SecurityMode::Insecure,
        };
        let (mounts, secretenv) = mounts.finish();
        let op = llb::ExecOp {
            meta: Some(meta),
            mounts,
            network: network.into(),
            security: security.into(),
            secretenv,
            cdi_devices: options.devices.iter().cloned().chain(devices).collect(),
        };
        let about = About { caps: caps(&op), ..about };
        let platform = stage.platform.clone();
        stage.output = Some(self.graph.add(inputs, llb::OpOp::Exec(op), Some(&platform), about)?);
        self.ran(stage, &args)
    }

    /// The history shows the arguments of the build, since they are a part of what ran.
    fn ran(&mut self, stage: &mut Stage, args: &[String]) -> Result<(), ConvertError> {
        let declared =
            stage.args.pairs().map(|(name, value)| format!("{name}={}", stage.seen.get(name).unwrap_or(value)));
        let mut words: Vec<String> = declared.collect();
        if !words.is_empty() {
            words.insert(0, format!("|{}", words.len()));
        }
        words.extend(args.iter().cloned());
        self.history(stage, format!("RUN {} # buildkit", words.join(" ")), true)
    }

    fn command_title(&self, stage: &Stage, step: &Step, run: &Run) -> String {
        let mut text = written(step).to_owned();
        if let Some(document) = run.heredocs.first().filter(|_| run.only_heredoc) {
            text.push_str(&format!(" ({})", summary(&document.content)));
        }
        let secret = |name: &str| {
            step.mounts
                .iter()
                .any(|mount| matches!(&mount.kind, MountKind::Secret { env: Some(env), .. } if env == name))
        };
        let value = |name: &str| if secret(name) { Some("****") } else { stage.seen.get(name) };
        capitals(&expanded(&text, true, value))
    }

    /// A file on its own.
    pub(super) fn document(&mut self, name: &str, mode: i32, data: Vec<u8>) -> Result<Output, ConvertError> {
        let file =
            llb::FileActionMkFile { path: super::path::resolve("/", name), mode, data, owner: None, timestamp: -1 };
        let action = llb::FileAction {
            input: -1,
            secondary_input: -1,
            output: 0,
            action: Some(llb::FileActionAction::Mkfile(file)),
        };
        let about = About { caps: vec!["file.base"], ..About::internal("preparing inline document") };
        self.graph.add(Inputs::default(), llb::OpOp::File(llb::FileOp { actions: vec![action] }), None, about)
    }

    /// Proxies are no part of what a command is known by, so they are not in its environment.
    fn proxies(&self) -> Option<llb::ProxyEnv> {
        let mut found = llb::ProxyEnv::default();
        let mut any = false;
        for (name, value) in &self.input.plan.options().build_args {
            let slot = match name.to_ascii_lowercase().as_str() {
                "http_proxy" => &mut found.http_proxy,
                "https_proxy" => &mut found.https_proxy,
                "ftp_proxy" => &mut found.ftp_proxy,
                "no_proxy" => &mut found.no_proxy,
                "all_proxy" => &mut found.all_proxy,
                _ => continue,
            };
            slot.clone_from(value);
            any = true;
        }
        any.then_some(found)
    }
}

fn shelled(stage: &Stage, line: String) -> Vec<String> {
    let words = stage.config.shell.clone().filter(|words| !words.is_empty());
    let mut words = words.unwrap_or_else(|| shell().to_vec());
    words.push(line);
    words
}

/// What a builder must know to carry it out.
fn caps(op: &llb::ExecOp) -> Vec<&'static str> {
    let mut caps = vec![
        "exec.meta.base",
        "exec.meta.removemountstubs.recursive",
        "exec.meta.setsdefaultpath",
        "exec.mount.bind",
        "platform",
    ];
    let mut when = |holds: bool, cap| {
        if holds {
            caps.push(cap);
        }
    };
    if let Some(meta) = &op.meta {
        when(meta.proxy_env.is_some(), "exec.meta.proxyenv");
        when(!meta.ulimit.is_empty(), "exec.meta.ulimit");
        when(!meta.cgroup_parent.is_empty(), "exec.meta.cgroup.parent");
    }
    when(op.network != i32::from(llb::NetMode::Unset), "exec.meta.network");
    when(op.security != i32::from(llb::SecurityMode::Sandbox), "exec.meta.security");
    when(!op.secretenv.is_empty(), "exec.secretenv");
    when(!op.cdi_devices.is_empty(), "exec.meta.cdi.devices");
    for mount in &op.mounts {
        let kind = mount.mount_type();
        when(!mount.selector.is_empty(), "exec.mount.selector");
        when(kind == llb::MountType::Cache, "exec.mount.cache");
        when(kind == llb::MountType::Cache, "exec.mount.cache.sharing");
        when(kind == llb::MountType::Tmpfs, "exec.mount.tmpfs");
        when(mount.tmpfs_opt.as_ref().is_some_and(|tmpfs| tmpfs.size > 0), "exec.mount.tmpfs.size");
        when(kind == llb::MountType::Secret, "exec.mount.secret");
        when(kind == llb::MountType::Ssh, "exec.mount.ssh");
        let lost = kind == llb::MountType::Bind && !mount.readonly && mount.output < 0;
        when(lost, "exec.mount.bind.readwrite-nooutput");
    }
    caps
}
