//! A23: what the kernel says of the host in `/proc` and `/sys`: memory, keys, timers, power, interrupts
//! (CVE-2017-16539, CVE-2018-10892). Looked for by every name it has, not only where the configuration names it, and
//! by a list of what a kernel shows in `/proc`, so that a new kernel's new files are judged before they are shown.

use std::fs;
use std::path::Path;

use oci_tests::{Bundle, Canary, Environment, MASKED_PATHS, Output, Runtime};
use serde_json::{Value, json};

/// Names of files and directories that tell of the host, or let it be measured, anywhere in `/proc` and `/sys`.
const TELLING: [&str; 14] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
    "powercap",
    "firmware",
    "energy_uj",
    "thermal_throttle",
];

/// Directories that share such a name with what is hidden, and no more: limits of keyrings, the timeouts of firmware
/// loading, the kinds and parameters of drivers.
const HARMLESS: [&str; 5] =
    ["/proc/sys/kernel/keys", "/sys/class/firmware", "/sys/bus/acpi", "/sys/bus/scsi", "/sys/module/acpi"];

/// What `/proc` may show besides the hidden names: files of Linux 5.10 to 6.18 that are the same for every process of a
/// host, tell no other container's doings beyond its load, and are in Docker's containers as well.
#[rustfmt::skip]
const KNOWN: [&str; 60] = [
    "allocinfo", "bootconfig", "buddyinfo", "bus", "cgroups", "cmdline", "config.gz", "consoles", "cpuinfo", "crypto",
    "devices", "diskstats", "dma", "driver", "dynamic_debug", "execdomains", "fb", "filesystems", "fs", "iomem",
    "ioports", "irq", "kallsyms", "key-users", "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "loadavg", "locks",
    "lockdep", "lockdep_stats", "lock_stat", "mdstat", "meminfo", "misc", "modules", "mounts", "mtrr", "net",
    "pagetypeinfo", "partitions", "pressure", "profile", "schedstat", "self", "slabinfo", "softirqs", "stat", "swaps",
    "sys", "sysrq-trigger", "sysvipc", "thread-self", "tty", "uptime", "version", "vmallocinfo", "vmstat", "zoneinfo",
];

/// Searches `/proc` and `/sys`, but not the processes, for the telling names; prints what has content.
fn search() -> String {
    let names = TELLING.map(|name| format!("-name {name}")).join(" -o ");
    format!(
        "for path in $(find /proc /sys -path '/proc/[0-9]*' -prune -o \\( {names} \\) -print); do
            # Where it leads, too: a hidden directory has links to it in classes and on buses.
            if [ -d $path ]; then
                [ -z \"$(ls -A $path/)\" ] || echo FAULT $path is not empty
            elif [ -n \"$(head -c 16 $path)\" ]; then
                echo FAULT $path has content
            fi
        done
        for path in {masked}; do
            for way in /proc/self/root /proc/1/root /proc/thread-self/root /proc/self/cwd; do
                [ -e $way$path ] || continue
                if [ -d $way$path ]; then
                    [ -z \"$(ls -A $way$path/)\" ] || echo FAULT $way$path is not empty
                elif [ -n \"$(head -c 16 $way$path)\" ]; then
                    echo FAULT $way$path has content
                fi
            done
        done
        echo searched",
        masked = MASKED_PATHS.join(" ")
    )
}

/// As dockerd hides paths on this host: with the thermal counters of each CPU that has them.
fn bundle() -> Bundle {
    let throttled = (0..4096).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    let throttled = throttled.filter(|path| Path::new(path).exists());
    let all: Vec<Value> = MASKED_PATHS.iter().map(|path| json!(path)).chain(throttled.map(Value::from)).collect();
    Bundle::new().set("/linux/maskedPaths", Value::Array(all))
}

#[track_caller]
fn assert_nothing_found(output: &Output) {
    assert!(output.stdout.contains("searched"), "{output}");
    let harmless = |line: &str| HARMLESS.iter().any(|path| line == format!("FAULT {path} is not empty"));
    let fault = output.stdout.lines().find(|line| line.starts_with("FAULT") && !harmless(line));
    assert_eq!(fault, None, "{output}");
}

#[test]
fn nothing_tells_of_the_host() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let own = bundle().shell(&search());
    assert_nothing_found(&runtime.run(&own).ok());
    assert_nothing_found(&runtime.run(&bundle().user(1000, 1000, &[]).shell(&search())).ok());
    assert_nothing_found(&runtime.run(&bundle().user_namespace(200_000).shell(&search())).ok());
    // What is hidden from the first process is hidden from those that come later.
    let idle = bundle().idle();
    let container = runtime.start(&idle);
    assert_nothing_found(&container.shell(&search()).ok());
}

/// A capability that lets a process mount gets it no second look: without the filter and with CAP_SYS_ADMIN in a user
/// namespace of its own a new procfs is refused, as the one in sight is covered in part (mount_too_revealing in the
/// kernel's fs/namespace.c).
#[test]
fn a_new_procfs_shows_no_more() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let look = "mkdir -p /tmp/p /tmp/s
        for what in 'proc /tmp/p' 'sysfs /tmp/s'; do
            if mount -t ${what% *} x ${what#* } 2> /tmp/error; then echo FAULT mounted $what; fi
        done
        umount /proc/interrupts 2> /tmp/error && echo FAULT uncovered /proc/interrupts
        umount /sys/firmware 2> /tmp/error && echo FAULT uncovered /sys/firmware
        echo searched";
    let admin = bundle().capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SETFCAP"]).without_seccomp();
    // As the container's root in a user namespace, which a process of the container makes for itself.
    let nested = admin.user_namespace(200_000).shell(&format!("unshare -Urm sh -c '{}'", look.replace('\'', "\"")));
    assert_nothing_found(&runtime.run(&nested).ok());
}

#[test]
fn every_file_of_proc_is_known() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let output = runtime.run(&bundle().args(&["/bin/ls", "-A", "/proc"])).ok();
    let names = output.stdout.split_whitespace().filter(|name| !name.bytes().all(|byte| byte.is_ascii_digit()));
    let hidden = |name: &&str| MASKED_PATHS.contains(&&*format!("/proc/{name}"));
    let unknown: Vec<&str> = names.filter(|name| !hidden(name) && !KNOWN.contains(name)).collect();
    assert!(
        unknown.is_empty(),
        "{unknown:?} of /proc are new: hide those that tell of the host, and write down the others as known"
    );
}

/// The search finds what it is to find: with nothing hidden there is something.
#[test]
fn what_is_not_hidden_is_found() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let open = Bundle::new().remove("/linux/maskedPaths").shell(&search());
    let output = runtime.run(&open).ok();
    for path in ["/proc/interrupts", "/proc/timer_list"] {
        // As far as this kernel has them.
        if fs::read(path).is_ok_and(|content| !content.is_empty()) {
            assert!(output.stdout.contains(&format!("FAULT {path} has content")), "{output}");
        }
    }
    assert!(output.stdout.contains("FAULT"), "{output}");
}
