//! What others do to firewall and bridges is put right within a second, and opens nothing meanwhile.

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use firewall::{Firewall, NetRules, PortLink};
use netlink::nftables::{BaseChain, ChainKind, Expression, Family, Hook, NftSocket, Policy, Transaction, Verdict};
use netlink::route::{LinkChange, RouteRequests, RouteSocket};
use types::Protocol;

use crate::world::*;

/// Two networks and an internal one, a container in each, and ports of the first published on 8080.
struct Scene {
    nets: [NetRules; 3],
    containers: [Container; 3],
    listener: TcpListener,
}

fn scene(firewall: &mut Firewall) -> Scene {
    let nets = [net("br-a", 0xa), net("br-b", 0xb), NetRules { internal: true, ..net("br-i", 0xc) }];
    firewall.sync(nets.to_vec(), vec![], vec![]).unwrap();
    let containers = nets.each_ref().map(|net| {
        make_bridge(net);
        container(net, 2)
    });
    for container in &containers {
        firewall.put_link(container.link.clone()).unwrap();
    }
    firewall.publish(&publish(&containers[0], ANY, 8080, Protocol::Tcp)).unwrap();
    let listener = containers[0].listen();
    Scene { nets, containers, listener }
}

impl Scene {
    /// What nobody outside may reach at any time.
    fn shut(&self) -> Vec<(IpAddr, u16)> {
        self.containers.iter().flat_map(|container| container.ip.map(|ip| (ip, 80))).collect()
    }

    /// Everything that must work does.
    fn check(&self, world: &World, what: &str) {
        for family in FAMILIES {
            let by = |netns| connect_from(netns, HOST[family], 8080, PATIENCE);
            exchange(by(&world.neighbour), &self.listener, what);
            exchange(by(&self.containers[1].netns), &self.listener, what);
            assert_silent(&world.neighbour, self.containers[2].ip[family], 80, what);
            assert_silent(&self.containers[2].netns, NEIGHBOUR[family], 90, what);
        }
        exchange(connect(LOOPBACK, 8080, PATIENCE), &self.listener, what);
    }
}

/// A forward chain of somebody else that drops, in every family it may have.
fn foreign_firewalls(nft: &mut NftSocket) {
    for family in [Family::Ipv4, Family::Ipv6, Family::Inet] {
        let mut t = Transaction::of(family, "filter");
        let base = BaseChain { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop };
        t.create_table().create_base_chain("FORWARD", &base);
        nft.apply(t).unwrap();
    }
}

fn in_force() -> bool {
    let chains = NftSocket::open().unwrap().all_chains().unwrap();
    let ours = |name: &str| chains.iter().any(|chain| chain.table == "dhow-t" && chain.name == name);
    ["guard", "forward", "input", "publish", "to-br-a", "from-br-i"].into_iter().all(ours)
}

#[test]
fn flushed_firewalls_open_nothing() {
    on_private_host(|world| {
        let mut firewall = Firewall::open("dhow-t").unwrap();
        let scene = scene(&mut firewall);
        let owner = firewall.is_owner();
        let firewall = tended(firewall, |_| {
            scene.check(world, "at first");
            let damage = || {
                for round in 0..3 {
                    if !run("nft", &["flush", "ruleset"]) {
                        return;
                    }
                    soon("the rules are in force", in_force);
                    scene.check(world, &format!("flush {round}"));
                }
                for program in ["iptables", "ip6tables"] {
                    if run(program, &["-F"]) && run(program, &["-t", "nat", "-F"]) && run(program, &["-X"]) {
                        scene.check(world, program);
                    }
                }
            };
            // Without an owner there is a moment between a flush and what it calls for.
            let shut = if owner { scene.shut() } else { vec![] };
            let from_another = &scene.containers[1].netns;
            let to_first: Vec<(IpAddr, u16)> = if owner { vec![(scene.containers[0].ip[0], 80)] } else { vec![] };
            never(&world.neighbour, &shut, || never(from_another, &to_first, damage));
        });
        if owner {
            // Two of the scene; each flush took the users' table, which belongs to nobody.
            assert!(firewall.stats().transactions <= 5, "the rules were never touched: {:?}", firewall.stats());
        }
        firewall.close(true).unwrap();
        assert!(!in_force());
    });
}

fn user_table_is_there() -> bool {
    NftSocket::open().unwrap().all_tables().unwrap().iter().any(|table| table.name == firewall::USER_TABLE)
}

#[test]
fn rules_without_an_owner_come_back() {
    on_private_host(|world| {
        let mut firewall = Firewall::open_unowned("dhow-t").unwrap();
        assert!(!firewall.is_owner());
        let scene = scene(&mut firewall);
        let mut nft = NftSocket::open().unwrap();
        let firewall = tended(firewall, |firewall| {
            for round in 0..3 {
                let mut t = Transaction::of(Family::Inet, "dhow-t");
                t.delete_table();
                nft.apply(t).unwrap();
                soon("the table is back", in_force);
                scene.check(world, &format!("round {round}"));
            }
            if run("nft", &["flush", "ruleset"]) {
                soon("everything is back", || in_force() && user_table_is_there());
                scene.check(world, "a flush");
            }
            // A single rule or element counts as well.
            let guard = nft.rules_of(Family::Inet, "dhow-t", "guard").unwrap();
            let mut t = Transaction::of(Family::Inet, "dhow-t");
            t.delete_rule("guard", guard[1].handle);
            nft.apply(t).unwrap();
            let rules =
                |nft: &mut NftSocket| nft.rules_of(Family::Inet, "dhow-t", "guard").map_or(0, |rules| rules.len());
            soon("the rule is back", || rules(&mut nft) == guard.len());
            let elements =
                |nft: &mut NftSocket| nft.elements_of(Family::Inet, "dhow-t", "published4-any").unwrap_or_default();
            let published = elements(&mut nft);
            let mut t = Transaction::of(Family::Inet, "dhow-t");
            t.delete_elements("published4-any", &published);
            nft.apply(t).unwrap();
            soon("the element is back", || elements(&mut nft) == published);
            // A change that meets a table nobody has put right yet.
            let mut held = firewall.lock();
            let mut t = Transaction::of(Family::Inet, "dhow-t");
            t.delete_table();
            nft.apply(t).unwrap();
            held.publish(&publish(&scene.containers[1], ANY, 8081, Protocol::Tcp)).unwrap();
            drop(held);
            assert!(in_force());
            scene.check(world, "after all");
            // Whoever keeps at it is answered more slowly.
            let before = firewall.lock().stats().repairs;
            for _ in 0..100 {
                let mut t = Transaction::of(Family::Inet, "dhow-t");
                t.create_chain("intruder");
                let _ = nft.apply(t);
                std::thread::sleep(Duration::from_millis(10));
            }
            let repairs = firewall.lock().stats().repairs - before;
            assert!((1..=20).contains(&repairs), "{repairs} repairs in a second");
        });
        firewall.close(true).unwrap();
    });
}

#[test]
fn foreign_firewalls_that_drop_are_passed_and_left_as_found() {
    on_private_host(|world| {
        let mut nft = NftSocket::open().unwrap();
        foreign_firewalls(&mut nft);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        let scene = scene(&mut firewall);
        let beside = container(&scene.nets[2], 3);
        firewall.put_link(beside.link.clone()).unwrap();
        let inner = scene.containers[2].listen();
        let places = [Family::Ipv4, Family::Ipv6, Family::Inet];
        let count = |nft: &mut NftSocket| places.map(|family| nft.rules_of(family, "filter", "FORWARD").unwrap().len());
        let firewall = tended(firewall, |firewall| {
            scene.check(world, "passed");
            for family in FAMILIES {
                let way = connect_from(&beside.netns, scene.containers[2].ip[family], 80, PATIENCE);
                exchange(way, &inner, "within an internal network");
            }
            assert_eq!(count(&mut nft), [5; 3], "two rules for each bridge, one for the internal");
            for (program, option) in [("iptables", "-S"), ("ip6tables", "-S")] {
                if run(program, &[option, "FORWARD"]) {
                    let text = output(program, &[option, "FORWARD"]);
                    assert!(text.contains("-i br-a") && text.contains("-j ACCEPT"), "{program} still reads it: {text}");
                    run(program, &["-F", "FORWARD"]);
                    soon("room is made again", || count(&mut nft) == [5; 3]);
                    scene.check(world, program);
                }
            }
            // A network comes and goes.
            firewall.lock().put_net(net("br-z", 0x1f)).unwrap();
            assert_eq!(count(&mut nft), [7; 3]);
            firewall.lock().remove_net("br-z").unwrap();
            assert_eq!(count(&mut nft), [5; 3]);
            // A firewall that comes up later, with dockerd's chain for users; what it refuses stays refused.
            let mut t = Transaction::of(Family::Ipv4, "later");
            let base = BaseChain { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Drop };
            t.create_table().create_base_chain("FORWARD", &base).create_chain("DOCKER-USER");
            t.add_rule("FORWARD", "", &[jump("DOCKER-USER")]);
            nft.apply(t).unwrap();
            soon("room is made", || nft.rules_of(Family::Ipv4, "later", "FORWARD").unwrap().len() == 6);
            scene.check(world, "later");
            let mut t = Transaction::of(Family::Ipv4, "later");
            t.add_rule("DOCKER-USER", "", &[Expression::Verdict(Verdict::Drop)]);
            nft.apply(t).unwrap();
            assert_silent(&world.neighbour, HOST[0], 8080, "a user's rule comes first");
            assert_silent(&scene.containers[0].netns, NEIGHBOUR[0], 90, "and for what comes from containers");
        });
        // A network that went while nobody was there to take its rules away.
        firewall.close(false).unwrap();
        let mut requests = RouteRequests::new();
        requests.delete_link("br-b").delete_link("br-i");
        RouteSocket::open().unwrap().apply(requests).unwrap();
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![scene.nets[0].clone()], vec![], vec![]).unwrap();
        assert_eq!(count(&mut nft), [2; 3]);
        firewall.close(true).unwrap();
        assert_eq!(count(&mut nft), [0; 3]);
        assert_eq!(nft.rules_of(Family::Ipv4, "later", "FORWARD").unwrap().len(), 1);
        assert_eq!(nft.rules_of(Family::Ipv4, "later", "DOCKER-USER").unwrap().len(), 1);
    });
}

fn jump(chain: &str) -> Expression {
    Expression::Verdict(Verdict::Jump(chain.into()))
}

#[test]
fn a_deleted_bridge_comes_back_with_its_ports() {
    on_private_host(|world| {
        let mut firewall = Firewall::open("dhow-t").unwrap();
        let scene = scene(&mut firewall);
        let apart = NetRules { icc: false, mtu: 1280, ..net("br-c", 0x1c) };
        firewall.put_net(apart.clone()).unwrap();
        make_bridge(&apart);
        let (c2, c3) = (container(&apart, 2), container(&apart, 3));
        firewall.put_link(c2.link.clone()).unwrap();
        firewall.put_link(c3.link.clone()).unwrap();
        let mut route = RouteSocket::open().unwrap();
        let delete = |name: &str| {
            let mut requests = RouteRequests::new();
            requests.delete_link(name);
            RouteSocket::open().unwrap().apply(requests).unwrap();
        };
        let mut is_whole = |net: &NetRules, ports: &[&PortLink]| {
            let Some(bridge) = route.link(&net.bridge).unwrap() else { return false };
            let addresses = route.ip_addresses().unwrap();
            let has = |ip: &IpAddr| addresses.iter().any(|a| a.link == bridge.index && a.local == *ip);
            let settings = ["ipv4/conf/BR/route_localnet", "ipv6/conf/BR/accept_ra", "ipv6/conf/BR/disable_ipv6"]
                .map(|name| read_sysctl(&name.replace("BR", &net.bridge)));
            (bridge.mac, bridge.mtu, bridge.up) == (Some(net.mac), net.mtu, true)
                && gateways(net).iter().all(has)
                && settings == ["1", "0", "0"]
                && ports.iter().all(|port| {
                    let link = route.link(&port.veth).unwrap().unwrap();
                    (link.master, link.hairpin, link.isolated) == (Some(bridge.index), port.hairpin, port.isolated)
                })
        };
        let firewall = tended(firewall, |firewall| {
            never(&world.neighbour, &scene.shut(), || {
                for (net, container) in scene.nets.iter().zip(&scene.containers) {
                    delete(&net.bridge);
                    soon(&net.bridge, || is_whole(net, &[&container.link]));
                    scene.check(world, &net.bridge);
                }
            });
            delete("br-c");
            soon("br-c", || is_whole(&apart, &[&c2.link, &c3.link]));
            let _listener = c2.listen();
            assert!(connect_from(&c3.netns, c2.ip[0], 80, SILENCE).is_err(), "kept apart still");
            // A port that lost its bridge.
            let mut requests = RouteRequests::new();
            let leave = LinkChange { master: Some(0), ..LinkChange::default() };
            requests.change_link_by_name(&c2.link.veth, &leave);
            RouteSocket::open().unwrap().apply(requests).unwrap();
            soon("the port", || is_whole(&apart, &[&c2.link, &c3.link]));
            // A container that goes with its link is no loss.
            firewall.lock().remove_link(&c3.link.veth).unwrap();
            delete(&c3.link.veth);
            // What is not wanted any more stays away.
            firewall.lock().remove_net("br-c").unwrap();
            delete("br-c");
            std::thread::sleep(Duration::from_millis(100));
            assert!(RouteSocket::open().unwrap().link("br-c").unwrap().is_none());
        });
        firewall.close(true).unwrap();
    });
}

#[test]
fn bridges_deleted_unwatched_come_back_when_asked_for() {
    on_private_host(|world| {
        let mut firewall = Firewall::open("dhow-t").unwrap();
        let scene = scene(&mut firewall);
        drop(firewall);
        let mut requests = RouteRequests::new();
        requests.delete_link("br-a");
        let mut route = RouteSocket::open().unwrap();
        route.apply(requests).unwrap();
        let mut firewall = Firewall::open("dhow-t").unwrap();
        let links = scene.containers.iter().map(|container| container.link.clone()).collect();
        let ports = publish(&scene.containers[0], ANY, 8080, Protocol::Tcp);
        firewall.sync(scene.nets.to_vec(), links, ports).unwrap();
        firewall.handle_events().unwrap();
        assert!(route.link("br-a").unwrap().is_none(), "whoever makes bridges may be about to");
        firewall.restore_links().unwrap();
        scene.check(world, "asked for");
        firewall.close(true).unwrap();
    });
}
