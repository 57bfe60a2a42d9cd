//! Port 53 of the name server's address, in a namespace where somebody else has port 53.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

use firewall::lead_to_name_server;
use netlink::nftables::NftSocket;

use crate::world::*;

#[test]
fn questions_reach_the_name_server_whoever_has_its_port() {
    on_private_host(|_| {
        let server = Ipv4Addr::new(127, 0, 0, 11);
        let taken = UdpSocket::bind("0.0.0.0:53").unwrap();
        let _taken = TcpListener::bind("0.0.0.0:53").unwrap();
        let mut nft = NftSocket::open().unwrap();
        // A second server takes the first one's place.
        for _ in 0..2 {
            let datagrams = UdpSocket::bind((server, 0)).unwrap();
            let port = datagrams.local_addr().unwrap().port();
            let streams = TcpListener::bind((server, port)).unwrap();
            nft.apply(lead_to_name_server(server, port)).unwrap();
            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            for socket in [&taken, &datagrams, &client] {
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
            }
            let mut buffer = [0; 16];
            // Answers as large as a datagram gets, which lo carries whole.
            for length in [1, 512, 4096, 60_000] {
                client.connect((server, 53)).unwrap();
                client.send(b"question").unwrap();
                let (_, from) = datagrams.recv_from(&mut buffer).unwrap();
                datagrams.send_to(&vec![9; length], from).unwrap();
                let mut answer = vec![0; 65_536];
                assert_eq!(client.recv(&mut answer).unwrap(), length, "a connected socket hears port 53 alone");
            }
            let other = UdpSocket::bind("127.0.0.1:0").unwrap();
            other.send_to(b"x", "127.0.0.1:53").unwrap();
            assert_eq!(taken.recv_from(&mut buffer).unwrap().0, 1, "other addresses are left alone");
            let mut client = TcpStream::connect_timeout(&(server, 53).into(), PATIENCE).unwrap();
            let (mut served, _) = streams.accept().unwrap();
            client.write_all(b"question").unwrap();
            served.read_exact(&mut buffer[..8]).unwrap();
            served.write_all(b"answer").unwrap();
            client.read_exact(&mut buffer[..6]).unwrap();
            assert_eq!(&buffer[..6], b"answer");
        }
    });
}
