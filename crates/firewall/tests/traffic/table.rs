//! The table as a whole: what changes cost, who owns it, and what is left at the end.

use firewall::{Change, Error, Firewall, NetRules, PortRule, USER_TABLE};
use netlink::nftables::{Family, NftMonitor, NftSocket, TABLE_PERSIST, Transaction};
use types::Protocol;

use crate::world::*;

fn ports(container: &Container, numbers: std::ops::Range<u16>) -> Vec<PortRule> {
    numbers.flat_map(|number| publish(container, ANY, number, Protocol::Tcp)).collect()
}

#[test]
fn changes_cost_what_they_change() {
    on_private_host(|_| {
        let a = net("br-a", 0xa);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        let a2 = container(&a, 2);
        let cost = |firewall: &mut Firewall, change: &dyn Fn(&mut Firewall)| {
            let before = firewall.stats();
            change(firewall);
            let after = firewall.stats();
            (after.transactions - before.transactions, after.messages - before.messages)
        };
        let first = cost(&mut firewall, &|f| f.put_net(net("br-0", 0x20)).unwrap());
        assert_eq!(first.0, 1);
        for number in 1..60 {
            let rules = net(&format!("br-{number}"), 0x20 + number);
            assert_eq!(cost(&mut firewall, &|f| f.put_net(rules.clone()).unwrap()), first);
        }
        // A map for each family and the set of what is forwarded, 256 elements a message.
        assert_eq!(cost(&mut firewall, &|f| f.publish(&ports(&a2, 1..2)).unwrap()), (1, 3));
        assert_eq!(cost(&mut firewall, &|f| f.publish(&ports(&a2, 1000..2000)).unwrap()), (1, 12));
        assert_eq!(cost(&mut firewall, &|f| f.publish(&ports(&a2, 2..3)).unwrap()), (1, 3));
        assert_eq!(cost(&mut firewall, &|f| f.publish(&ports(&a2, 2..3)).unwrap()), (0, 0), "it is there");
        let mut nft = NftSocket::open().unwrap();
        let mut elements = |set: &str| nft.elements_of(Family::Inet, "dhow-t", set).unwrap().len();
        assert_eq!((elements("published4-any"), elements("published6-any"), elements("guard4")), (1002, 1002, 122));
        // A batch is one transaction, whatever is in it.
        let batch = [
            Change::Unpublish(ports(&a2, 1000..2000)),
            Change::PutNet(net("br-x", 0x1f)),
            Change::RemoveNet { bridge: "br-5".into() },
            Change::PutLink(a2.link.clone()),
            Change::Publish(ports(&a2, 5000..5100)),
        ];
        assert_eq!(cost(&mut firewall, &|f| f.batch(&batch).unwrap()).0, 1);
        assert_eq!((elements("published4-any"), elements("guard4")), (102, 122));
        // So is everything at once, and a refused batch changes nothing.
        let refused = [Change::RemoveNet { bridge: "br-x".into() }, Change::PutNet(net("br-y", 0xa))];
        assert!(matches!(firewall.batch(&refused), Err(Error::Overlap(..))));
        assert_eq!(elements("guard4"), 122);
        let all: Vec<NetRules> = (0..40).map(|number| net(&format!("br-{number}"), 0x20 + number)).collect();
        assert_eq!(cost(&mut firewall, &|f| f.sync(all.clone(), vec![], vec![]).unwrap()).0, 1);
        assert_eq!((elements("published4-any"), elements("guard4")), (0, 80));
        firewall.close(true).unwrap();
    });
}

#[test]
fn hundreds_of_networks_are_one_transaction_and_no_alarm() {
    on_private_host(|_| {
        let nets: Vec<NetRules> = (0..=255u8)
            .flat_map(|high| (0..4).map(move |low| (high, low)))
            .map(|(high, low)| {
                let mut rules = net(&format!("br-{high}-{low}"), high);
                if let (Some(v4), Some(v6)) = (&mut rules.v4, &mut rules.v6) {
                    v4.subnet = format!("10.{high}.{}.0/24", low * 7).parse().unwrap();
                    v6.subnet = format!("fd10:{high:x}:{low:x}::/64").parse().unwrap();
                }
                rules
            })
            .collect();
        let ports: Vec<PortRule> = nets
            .iter()
            .zip(1..)
            .map(|(net, host_port)| PortRule {
                bridge: net.bridge.clone(),
                protocol: Protocol::Udp,
                host_ip: ANY[0],
                host_port,
                target: net.v4.unwrap().subnet.hosts().nth(4).unwrap().into(),
                target_port: 80,
            })
            .collect();
        // More messages than the kernel keeps for those who listen: ourselves, that is.
        let ways: [fn(&str) -> firewall::Result<Firewall>; 2] = [Firewall::open, Firewall::open_unowned];
        for open in ways {
            let mut firewall = open("dhow-t").unwrap();
            let mut listener = NftMonitor::open().unwrap();
            firewall.sync(nets.clone(), vec![], ports.clone()).unwrap();
            let mut lost = false;
            while listener.read(|change| lost |= change == netlink::nftables::Change::Lost).unwrap() {}
            assert!(lost, "more networks are needed for this test");
            let before = firewall.stats();
            assert_eq!(before.transactions, 1);
            for _ in 0..20 {
                firewall.handle_events().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            assert_eq!(firewall.stats(), before, "its own noise alarms nobody");
            assert_eq!(firewall.deadline(), None);
            let mut nft = NftSocket::open().unwrap();
            assert_eq!(nft.elements_of(Family::Inet, "dhow-t", "guard6").unwrap().len(), 2048);
            assert_eq!(nft.elements_of(Family::Inet, "dhow-t", "published4-any").unwrap().len(), 1024);
            firewall.close(true).unwrap();
        }
    });
}

#[test]
fn rules_outlive_their_process_and_are_taken_over() {
    on_private_host(|world| {
        let a = net("br-a", 0xa);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        let a2 = container(&a, 2);
        let listener = a2.listen();
        let rules = publish(&a2, ANY, 8080, Protocol::Tcp);
        firewall.publish(&rules).unwrap();
        let owner = firewall.is_owner();
        if owner {
            let mut other = Firewall::open("dhow-t").unwrap();
            assert!(matches!(other.sync(vec![], vec![], vec![]), Err(Error::Owned(_))), "its owner lives");
        }
        firewall.close(false).unwrap();
        let reach = |what: &str| {
            for host in HOST {
                exchange(connect_from(&world.neighbour, host, 8080, PATIENCE), &listener, what);
            }
            assert_silent(&world.neighbour, a2.ip[0], 80, what);
        };
        reach("nobody is there");
        let mut nft = NftSocket::open().unwrap();
        if owner {
            let tables = nft.all_tables().unwrap();
            let table = tables.iter().find(|table| table.name == "dhow-t").unwrap();
            assert_eq!((table.flags, table.owner), (TABLE_PERSIST, None));
        }
        let mut next = Firewall::open("dhow-t").unwrap();
        reach("another process, nothing said yet");
        never(&world.neighbour, &[(a2.ip[0], 80), (a2.ip[1], 80)], || {
            next.sync(vec![a.clone()], vec![a2.link.clone()], rules.clone()).unwrap();
            reach("taken over");
        });
        next.close(true).unwrap();
        // Also from one that was without an owner, and back.
        for unowned in [true, false, true] {
            let open: fn(&str) -> firewall::Result<Firewall> =
                if unowned { Firewall::open_unowned } else { Firewall::open };
            let mut next = open("dhow-t").unwrap();
            next.sync(vec![a.clone()], vec![], rules.clone()).unwrap();
            reach("of the other kind");
            next.close(false).unwrap();
        }
        Firewall::open("dhow-t").unwrap().close(true).unwrap();
        assert!(!nft.all_tables().unwrap().iter().any(|table| table.name == "dhow-t"));
    });
}

#[test]
fn the_users_table_is_made_once_and_heeded() {
    on_private_host(|world| {
        let a = net("br-a", 0xa);
        let mut firewall = Firewall::open("dhow-t").unwrap();
        firewall.sync(vec![a.clone()], vec![], vec![]).unwrap();
        make_bridge(&a);
        let a2 = container(&a, 2);
        let listener = a2.listen();
        firewall.publish(&publish(&a2, ANY, 8080, Protocol::Tcp)).unwrap();
        exchange(connect_from(&world.neighbour, HOST[0], 8080, PATIENCE), &listener, "without rules of the user");

        let mut nft = NftSocket::open().unwrap();
        let mut t = Transaction::of(Family::Inet, USER_TABLE);
        let neighbour = netlink::nftables::Expression::source_within(NEIGHBOUR[0], 32);
        let v4 = netlink::nftables::Expression::family(Family::Ipv4);
        let drop = netlink::nftables::Expression::Verdict(netlink::nftables::Verdict::Drop);
        t.add_rule("forward", "mine", &[&v4[..], &neighbour, &[drop]].concat());
        nft.apply(t).unwrap();
        firewall.handle_events().unwrap();
        firewall.sync(vec![a.clone()], vec![], publish(&a2, ANY, 8080, Protocol::Tcp)).unwrap();
        assert_silent(&world.neighbour, HOST[0], 8080, "the user forbids it");
        exchange(connect_from(&world.neighbour, HOST[1], 8080, PATIENCE), &listener, "of the other family");
        firewall.close(true).unwrap();
        assert_eq!(nft.rules_of(Family::Inet, USER_TABLE, "forward").unwrap().len(), 1, "it is the user's");
    });
}

#[test]
fn what_is_wanted_travels() {
    let change = Change::PutNet(net("br-a", 0xa));
    let bytes = postcard::to_allocvec(&change).unwrap();
    assert_eq!(postcard::from_bytes::<Change>(&bytes).unwrap(), change);
    assert!(bytes.len() < 200, "{} bytes", bytes.len());
}
