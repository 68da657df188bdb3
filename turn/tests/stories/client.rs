//! What a client of TURN says, packet by packet.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use aws_lc_rs::digest;
use rustls::{ClientConnection, StreamOwned};
use veche_stun::attribute::{
    ERROR_CODE, MESSAGE_INTEGRITY, NONCE, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS, REALM, USERNAME,
};
use veche_stun::{Class, IntegrityKey, Message, Writer, address, message_type};

use crate::server::{PASSWORD, USER};

/// The methods.
pub(crate) const ALLOCATE: u16 = 0x003;
pub(crate) const REFRESH: u16 = 0x004;
pub(crate) const CREATE_PERMISSION: u16 = 0x008;
pub(crate) const CONNECT: u16 = 0x00a;
pub(crate) const CONNECTION_BIND: u16 = 0x00b;

/// For REQUESTED-TRANSPORT.
pub(crate) const UDP: Attribute<'static> = Attribute::Bytes(0x0019, &[17, 0, 0, 0]);
pub(crate) const TCP: Attribute<'static> = Attribute::Bytes(0x0019, &[6, 0, 0, 0]);

/// What a peer sent.
pub(crate) const DATA: u16 = 0x0013;

/// Which connection with a peer.
pub(crate) const CONNECTION_ID: u16 = 0x002a;

pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;

/// An attribute of a request.
pub(crate) enum Attribute<'a> {
    Bytes(u16, &'a [u8]),
    Peer(SocketAddr),
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 for a success.
    pub(crate) code: u16,
    pub(crate) relayed: Vec<SocketAddr>,
    pub(crate) connection: [u8; 4],
}

/// The way to the server.
pub(crate) trait Wire {
    fn send(&mut self, packet: &[u8]);
    /// The next message.
    fn receive(&mut self) -> Vec<u8>;
}

/// TLS over a connection.
pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Wire for &TcpStream {
    fn send(&mut self, packet: &[u8]) {
        self.write_all(packet).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        read_message(self)
    }
}

impl Wire for Tls {
    fn send(&mut self, packet: &[u8]) {
        self.write_all(packet).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        read_message(self)
    }
}

impl<W: Wire> Wire for &mut W {
    fn send(&mut self, packet: &[u8]) {
        W::send(self, packet);
    }

    fn receive(&mut self) -> Vec<u8> {
        W::receive(self)
    }
}

fn read_message(stream: &mut impl Read) -> Vec<u8> {
    let mut message = vec![0; 20];
    stream.read_exact(&mut message).unwrap();
    let len = usize::from(u16::from_be_bytes([message[2], message[3]]));
    message.resize(20 + len, 0);
    stream.read_exact(&mut message[20..]).unwrap();
    message
}

/// One client, who is [`USER`].
#[derive(Default)]
pub(crate) struct Client {
    pub(crate) nonce: Vec<u8>,
    transaction: u64,
}

impl Client {
    /// One who knows a nonce.
    pub(crate) fn greeted(wire: impl Wire) -> Self {
        let mut client = Self::default();
        assert_eq!(client.ask(wire, ALLOCATE, &[UDP]).code, 401);
        client
    }

    /// Sends a request and takes its answer.
    pub(crate) fn ask(&mut self, mut wire: impl Wire, method: u16, attributes: &[Attribute<'_>]) -> Answer {
        let request = self.request(method, attributes);
        wire.send(&request);
        self.read(&wire.receive())
    }

    /// A request, signed as soon as there is a nonce.
    pub(crate) fn request(&mut self, method: u16, attributes: &[Attribute<'_>]) -> Vec<u8> {
        self.transaction += 1;
        let mut transaction = [5; 12];
        transaction[4..].copy_from_slice(&self.transaction.to_be_bytes());
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(message_type(Class::Request, method), &transaction, &mut bytes);
        for attribute in attributes {
            match attribute {
                Attribute::Bytes(kind, value) => writer.attribute(*kind, value),
                Attribute::Peer(peer) => writer.xor_address(XOR_PEER_ADDRESS, *peer),
            }
        }
        if !self.nonce.is_empty() {
            writer.attribute(USERNAME, USER.as_bytes());
            writer.attribute(REALM, b"veche.test");
            writer.attribute(NONCE, &self.nonce);
            writer.attribute(PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
            writer.attribute(PASSWORD_ALGORITHMS, &[0, 1, 0, 0, 0, 2, 0, 0]);
            let secret = format!("{USER}:veche.test:{PASSWORD}");
            let key = digest::digest(&digest::SHA256, secret.as_bytes());
            writer.integrity(&IntegrityKey::sha1(key.as_ref()));
        }
        bytes
    }

    /// Takes an answer apart, and its nonce out of it.
    pub(crate) fn read(&mut self, packet: &[u8]) -> Answer {
        let message = Message::parse(packet).unwrap();
        let mut answer = Answer { code: 0, relayed: Vec::new(), connection: [0; 4] };
        let mut is_signed = false;
        for attribute in message.attributes().map(Result::unwrap) {
            let value = attribute.value;
            match attribute.kind {
                ERROR_CODE => answer.code = u16::from(value[2]) * 100 + u16::from(value[3]),
                NONCE => self.nonce = value.to_vec(),
                MESSAGE_INTEGRITY => is_signed = true,
                CONNECTION_ID => answer.connection = value.try_into().unwrap(),
                XOR_RELAYED_ADDRESS => {
                    answer.relayed.push(address::read_xor(value, &message.transaction()).unwrap());
                }
                _ => {}
            }
        }
        assert!(is_signed || answer.code != 0, "the server signs what it grants");
        answer
    }
}
