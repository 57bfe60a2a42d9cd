//! config-linux.md "Network Devices". The devices are made in a network namespace that the runtime is called from.

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::json;

use crate::refused_for;

/// The code by which the wrapper says that this kernel makes no devices.
const NO_DEVICES: i32 = 77;

/// A runtime in a network of its own with the device `dhowv0`, which is down and has an address.
fn runtime() -> Runtime {
    let make = "(ip link add dhowv0 type veth peer name dhowv1 || ip link add dhowv0 type dummy) 2>/dev/null \
                && ip addr add 10.98.7.6/24 dev dhowv0 || exit 77; exec \"$0\" \"$@\"";
    Runtime::new().wrapped(["unshare", "-n", "sh", "-c", make])
}

#[test]
fn devices_move_with_their_addresses() {
    let Some(_) = Environment::get() else { return };
    let runtime = runtime();
    for (device, name) in [(json!({}), "dhowv0"), (json!({ "name": "eth7" }), "eth7")] {
        let bundle = Bundle::new()
            .set("/linux/netDevices", json!({ "dhowv0": device }))
            .shell(&format!("ip addr show dev {name}; ls /sys/class/net"));
        let output = runtime.run(&bundle);
        if output.code == Some(NO_DEVICES) {
            eprintln!("left out: no veth or dummy device can be made here");
            return;
        }
        let output = output.ok();
        assert!(output.stdout.contains("10.98.7.6/24"), "the address is gone: {output}");
        assert!(output.stdout.contains(",UP"), "the device is down: {output}");
        assert_eq!(output.stdout.contains("dhowv0\n"), name == "dhowv0", "{output}");
    }
}

#[test]
fn devices_that_are_not_there_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let with = |devices| Bundle::new().set("/linux/netDevices", devices);
    refused_for(runtime.run(&with(json!({ "dhownosuch": {} }))), &["linux.netDevices.dhownosuch"]);
    let host = with(json!({ "lo": {} })).without_namespace("network");
    refused_for(runtime.run(&host), &["linux.netDevices", "network"]);
    refused_for(runtime.run(&with(json!({ "a/b": {} }))), &["linux.netDevices"]);
    refused_for(runtime.run(&with(json!({ "x": { "name": "name-that-is-too-long" } }))), &["linux.netDevices.x.name"]);
    refused_for(runtime.run(&with(json!({ "x": { "name": "y" }, "z": { "name": "y" } }))), &["linux.netDevices", "y"]);
}
