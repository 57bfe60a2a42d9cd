//! Messages of the domain name system: what clients ask and what servers answer.

use std::rc::Rc;

use dns::cache::{Cache, Key};
use dns::{Found, Host, Query, Reply, Unanswerable, Zones, rcode};
use types::Id;

/// A message, taken for a query and for the answer to one.
pub fn dns(data: &[u8]) {
    let mut out = Vec::new();
    let query = match Query::parse(data) {
        Ok(query) => Some(query),
        Err(Unanswerable::Refuse(refusal)) => {
            refusal.write(&mut out);
            assert!(out.len() <= 23 && out[..2] == data[..2]);
            None
        }
        Err(Unanswerable::Ignore) => None,
    };
    if let Some(query) = query {
        let again = Query::parse(&query.compose(query.id, false)).expect("a query of ours");
        assert_eq!((again.name, again.qtype, again.qclass), (query.name, query.qtype, query.qclass));
        let limit = query.datagram_limit();
        if zones().answer(Id::from_bytes([1; 32]).into(), &query, limit, &mut out) == Found::Unknown {
            dns::answer::empty(&query, rcode::SERVFAIL, &mut out);
        }
        assert!(out.len() <= limit && out[..2] == data[..2]);
    }

    // The question an answer repeats, if it has one, is taken for the one that was asked.
    let mut asked = data.to_vec();
    for (at, byte) in [(2, 1), (3, 0), (4, 0), (5, 1), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 0)] {
        if let Some(place) = asked.get_mut(at) {
            *place = byte;
        }
    }
    let Ok(query) = Query::parse(&asked) else { return };
    let Ok(reply) = Reply::parse(data, &query, query.id) else { return };
    let mut cache = Cache::default();
    let key = Key::new(1, &query);
    let reply = Rc::new(reply);
    cache.put(key.bytes(), &reply, 0);
    assert_eq!(cache.get(&key, 0).is_some(), reply.ttl().is_some());
    for limit in [512, 1232, 65_535] {
        for age in [0, u32::MAX] {
            reply.write(&query, age, limit, &mut out);
            assert!(out.len() <= limit);
            let id = query.id;
            assert!(out.len() < 12 + query.name.wire().len() + 4 || Reply::parse(&out, &query, id).is_ok());
        }
    }
}

fn zones() -> Zones {
    let mut zones = Zones::default();
    zones.put_host(&Host {
        endpoint: Id::from_bytes([1; 32]).into(),
        network: Id::from_bytes([1; 32]).into(),
        network_name: "net".to_owned(),
        internal: false,
        sandbox: Id::from_bytes([1; 32]).into(),
        names: vec!["web".to_owned(), "a.b".to_owned()],
        addresses: vec![[10, 0, 0, 2].into(), std::net::Ipv6Addr::LOCALHOST.into()],
    });
    zones
}
