//! config-linux.md "Sysctl": settings of the container's own namespaces, and no others.

use std::fs;

use oci_tests::{Bundle, Environment, Runtime};

use crate::refused_for;

#[test]
fn settings_of_the_containers_namespaces_are_made() {
    let Some(_) = Environment::get() else { return };
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("the host's setting");
    let bundle = Bundle::new()
        .sysctl("net.core.somaxconn", "77")
        .sysctl("net/ipv4/ip_unprivileged_port_start", "0")
        .sysctl("kernel.shm_rmid_forced", "1")
        .sysctl("kernel.msgmax", "65000")
        .sysctl("fs.mqueue.msg_max", "9")
        .shell(
            "cd /proc/sys; cat net/core/somaxconn net/ipv4/ip_unprivileged_port_start kernel/shm_rmid_forced \
             kernel/msgmax fs/mqueue/msg_max",
        );
    assert_eq!(Runtime::new().run(&bundle).ok().stdout, "77\n0\n1\n65000\n9\n");
    assert_eq!(fs::read_to_string("/proc/sys/net/core/somaxconn").expect("the host's setting"), somaxconn);
}

#[test]
fn settings_of_the_host_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for key in ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.panic", "net", "../kernel/panic"] {
        refused_for(runtime.run(&Bundle::new().sysctl(key, "1")), &["linux.sysctl"]);
    }
    let bundle = Bundle::new().sysctl("net.core.somaxconn", "1").without_namespace("network");
    refused_for(runtime.run(&bundle), &["linux.sysctl.net.core.somaxconn", "network"]);
    let bundle = Bundle::new().sysctl("kernel.shmmax", "1").without_namespace("ipc");
    refused_for(runtime.run(&bundle), &["linux.sysctl.kernel.shmmax", "ipc"]);
}

#[test]
fn settings_the_kernel_does_not_have_are_errors() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    refused_for(runtime.run(&Bundle::new().sysctl("net.core.nosuch", "1")), &["net.core.nosuch"]);
    refused_for(runtime.run(&Bundle::new().sysctl("net.core.somaxconn", "many")), &["net.core.somaxconn"]);
}
