//! Answers to requests.

use std::net::SocketAddr;

use veche_stun::attribute::{ALTERNATE_SERVER, NONCE, PASSWORD_ALGORITHMS, REALM};
use veche_stun::{Class, TransactionId, Writer, message_type};

use crate::credentials::{LongTermKey, PasswordAlgorithm};
use crate::five_tuple::FiveTuple;
use crate::outbox::{Destination, Outbox};
use crate::refusals::Refusal;
use crate::request::Request;

/// What the answer to a request takes from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) client: FiveTuple,
    pub(crate) method: u16,
    pub(crate) transaction: TransactionId,
    pub(crate) fingerprint: bool,
    /// What it is signed with, when the request was authentic.
    pub(crate) signer: Option<Signer>,
}

/// What a client's messages and the answers to them are signed with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signer {
    pub(crate) key: LongTermKey,
    pub(crate) sha256: bool,
}

/// What a refusal tells beside its code.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Detail<'a> {
    Nothing,
    /// What the next request has to repeat.
    Challenge {
        realm: &'a str,
        nonce: &'a [u8],
    },
    /// Which attributes were not understood.
    Unknown(&'a [u16]),
    /// Which server to ask instead.
    Alternate(SocketAddr),
}

impl Answer {
    pub(crate) fn new(client: FiveTuple, request: &Request<'_>, signer: Option<Signer>) -> Self {
        let Request { method, transaction, fingerprint, .. } = *request;
        Self { client, method, transaction, fingerprint, signer }
    }

    /// Yes, with what `write` adds.
    pub(crate) fn success(&self, out: &mut Outbox, write: impl FnOnce(&mut Writer<'_>)) {
        self.send(Class::Success, out, write);
    }

    /// No. Refusals without a code have no answer.
    pub(crate) fn refuse(&self, refusal: Refusal, detail: Detail<'_>, out: &mut Outbox) {
        let Some((code, reason)) = refusal.code() else { return };
        self.send(Class::Error, out, |writer| {
            writer.error(code, reason);
            match detail {
                Detail::Nothing => {}
                Detail::Challenge { realm, nonce } => {
                    writer.attribute(REALM, realm.as_bytes());
                    writer.attribute(NONCE, nonce);
                    writer.attribute(PASSWORD_ALGORITHMS, &PasswordAlgorithm::OFFERED);
                }
                Detail::Unknown(kinds) => writer.unknown_attributes(kinds),
                Detail::Alternate(server) => writer.address(ALTERNATE_SERVER, server),
            }
        });
    }

    fn send(&self, class: Class, out: &mut Outbox, write: impl FnOnce(&mut Writer<'_>)) {
        out.push(Destination::Client(self.client), |bytes| {
            let mut writer = Writer::begin(message_type(class, self.method), &self.transaction, bytes);
            write(&mut writer);
            if let Some(Signer { key, sha256 }) = &self.signer {
                writer.integrity(&key.ready(*sha256));
            }
            if self.fingerprint {
                writer.fingerprint();
            }
        });
    }
}
