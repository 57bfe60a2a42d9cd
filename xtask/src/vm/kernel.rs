//! Debian's kernels for virtual machines: the image and the modules, unpacked from the packages, and
//! the modules the guests need in an order in which they can be loaded one by one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell;
use crate::vm::apt::Apt;

pub struct Source {
    pub name: &'static str,
    /// Debian's suites it comes from; the first is the one, the others hold what it needs.
    suites: &'static [&'static str],
    /// Booted when no kernel is named.
    pub usual: bool,
}

/// The oldest kernel we promise to run on, the one most hosts of today run, and the newest there is.
pub const SOURCES: &[Source] = &[
    Source { name: "old", suites: &["bookworm"], usual: true },
    Source { name: "stable", suites: &["trixie"], usual: false },
    Source { name: "new", suites: &["trixie-backports", "trixie"], usual: true },
];

const PACKAGE: &str = "linux-image-cloud-amd64";

/// What guests and tests need. A name a kernel has built in, or has no more, is passed over.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "xfs",
    "quota_v2",
    "overlay",
    "erofs",
    "fuse",
    "loop",
    "veth",
    "bridge",
    "br_netfilter",
    "dummy",
    "tun",
    "macvlan",
    "ipvlan",
    "8021q",
    "sch_tbf",
    "nf_tables",
    "nft_chain_nat",
    "nft_compat",
    "nft_counter",
    "nft_ct",
    "nft_fib",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_hash",
    "nft_limit",
    "nft_log",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_objref",
    "nft_redir",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_nat",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_MASQUERADE",
    "xt_nat",
    "xt_tcpudp",
    "autofs4",
    "squashfs",
    // Shares of a network, with both of their ends on this host, and what those ask for by name.
    "nfsd",
    "nfsv4",
    "cifs",
    "ksmbd",
    "nls_utf8",
    "aes_generic",
    "ccm",
    "cmac",
    "ctr",
    "ecb",
    "gcm",
    "ghash-generic",
    "hmac",
    "md5",
    "sha256_generic",
    "sha512_generic",
];

pub struct Kernel {
    pub name: &'static str,
    /// As `uname -r` says it.
    pub release: String,
    pub image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// Fetches and unpacks what is not there yet.
    pub fn fetch(home: &Path, source: &Source) -> Result<Self> {
        let root = home.join("kernels").join(source.name);
        if !root.exists() {
            eprintln!("fetching the kernel of Debian {}", source.suites.join(" and "));
            let apt = Apt::new(home.join("apt").join(source.name), source.suites)?;
            let mut packages = apt.closure(PACKAGE)?;
            packages
                .retain(|name| ["linux-image-", "linux-modules-", "linux-binary-"].iter().any(|p| name.starts_with(p)));
            let half = home.join("kernels").join(format!(".{}.part", source.name));
            let _ = fs::remove_dir_all(&half);
            fs::create_dir_all(&half)?;
            apt.unpack(&packages, &half)?;
            let kernel = Self::unpacked(source, &half)?;
            let base = kernel.modules.ancestors().nth(3).context("modules lie in lib/modules")?.to_path_buf();
            // depmod looks in lib/modules; where the packages have usr/lib/modules, usr is the base.
            shell::run(shell::command("depmod", ["-b"]).arg(&base).arg(&kernel.release))?;
            fs::rename(&half, &root)?;
        }
        Self::unpacked(source, &root)
    }

    fn unpacked(source: &Source, root: &Path) -> Result<Self> {
        let trees = ["lib/modules", "usr/lib/modules"].map(|tree| root.join(tree));
        let modules = trees.iter().filter_map(|tree| fs::read_dir(tree).ok()).flatten().flatten().next();
        let modules = modules.with_context(|| format!("{} holds no kernel modules", root.display()))?.path();
        let release = modules.file_name().context("a directory without name")?.to_string_lossy().into_owned();
        let images = [modules.join("vmlinuz"), root.join("boot").join(format!("vmlinuz-{release}"))];
        let image = images.into_iter().find(|image| image.exists());
        let image = image.with_context(|| format!("{} holds no kernel image", root.display()))?;
        Ok(Self { name: source.name, release, image, modules })
    }

    /// Files of the needed modules, each after those it depends on.
    pub fn load_order(&self) -> Result<Vec<PathBuf>> {
        let path = self.modules.join("modules.dep");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let needs: BTreeMap<&str, Vec<&str>> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(file, needs)| (file, needs.split_whitespace().collect()))
            .collect();
        let mut order: Vec<&str> = Vec::new();
        for wanted in MODULES {
            let file = needs.keys().find(|file| module_name(file) == *wanted);
            let Some(file) = file else { continue };
            // depmod lists what a module needs with the deepest last.
            for file in needs[file].iter().rev().chain([file]) {
                if !order.contains(file) {
                    order.push(file);
                }
            }
        }
        Ok(order.into_iter().map(|file| self.modules.join(file)).collect())
    }
}

/// `kernel/net/netfilter/xt_nat.ko.xz` is `xt_nat`.
fn module_name(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split_once(".ko").map_or(name, |(name, _)| name)
}
