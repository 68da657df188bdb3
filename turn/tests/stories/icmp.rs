//! What networks say of packets that relays have sent (RFC 8656 section 11.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use veche_stun::{Class, Message, Writer, address, message_type};
use veche_turn::WorkerMetrics;

use crate::client::{ALLOCATE, Attribute, CREATE_PERMISSION, Client, DATA, UDP, Wire, XOR_PEER_ADDRESS};
use crate::server::{start, wait_until};
use crate::streams::connect;

const SEND: u16 = 0x006;
const DATA_INDICATION: u16 = 0x0017;
const ICMP: u16 = 0x8004;

#[test]
fn a_client_is_told_that_nobody_is_at_a_port_and_who_is_there_is_reached_all_the_same() {
    let turn = start(|_| {});
    // Port unreachable, with 7 bits of type and 9 of code.
    for (ip, family, expected) in [
        (IpAddr::from(Ipv4Addr::LOCALHOST), [1, 0, 0, 0], [0, 0, 6, 3, 0, 0, 0, 0]),
        (Ipv6Addr::LOCALHOST.into(), [2, 0, 0, 0], [0, 0, 2, 4, 0, 0, 0, 0]),
    ] {
        let mut stream = &connect(&turn);
        let mut client = Client::greeted(stream);
        assert_eq!(client.ask(stream, ALLOCATE, &[UDP, Attribute::Bytes(0x0017, &family)]).code, 0);
        let peer = UdpSocket::bind((ip, 0)).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let nobody = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        assert_eq!(client.ask(stream, CREATE_PERMISSION, &[Attribute::Peer(nobody)]).code, 0);
        for round in 0..20 {
            // What is sent after the error is not lost for it.
            let packets = [nobody, peer.local_addr().unwrap()].map(|to| {
                let mut bytes = Vec::new();
                let mut writer =
                    Writer::begin(message_type(Class::Indication, SEND), &[round; 12], &mut bytes);
                writer.xor_address(XOR_PEER_ADDRESS, to);
                writer.attribute(DATA, &[round]);
                bytes
            });
            stream.send(&packets.concat());
            let mut buffer = [0; 9];
            assert_eq!((peer.recv(&mut buffer).unwrap(), buffer[0]), (1, round));
            let told = stream.receive();
            let message = Message::parse(&told).unwrap();
            assert_eq!(message.kind(), DATA_INDICATION);
            let find =
                |kind| message.attributes().map(Result::unwrap).find(|one| one.kind == kind).unwrap().value;
            assert_eq!(find(ICMP), expected);
            let peer = address::read_xor(find(XOR_PEER_ADDRESS), &message.transaction());
            assert_eq!(peer, Ok(nobody));
        }
    }
    let sum = |of: fn(&WorkerMetrics) -> u64| turn.handle.metrics().iter().map(of).sum::<u64>();
    wait_until("all is counted", || sum(|worker| worker.traffic.packets_out) >= 120);
    assert_eq!(sum(|worker| worker.traffic.send_errors), 0);
}
