//! The STUN of an ICE client: binding requests out, their answers in (RFC 8489, RFC 8445).

use aws_lc_rs::hmac;

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A binding request of a client.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Found again in the answer.
    pub transaction: [u8; 12],
    /// The server's user name fragment.
    pub remote_ufrag: &'a str,
    /// The client's.
    pub local_ufrag: &'a str,
    /// The server's password.
    pub password: &'a str,
    /// Of the client's candidate.
    pub priority: u32,
    /// The server is in control, as one that is not lite is when it has offered.
    pub controlled: bool,
    /// Nominates the pair.
    pub nominate: bool,
}

impl Request<'_> {
    /// The datagram.
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![0, 1, 0, 0];
        out.extend_from_slice(&MAGIC_COOKIE);
        out.extend_from_slice(&self.transaction);
        attribute(&mut out, 0x0006, format!("{}:{}", self.remote_ufrag, self.local_ufrag).as_bytes());
        attribute(&mut out, 0x0024, &self.priority.to_be_bytes());
        attribute(&mut out, if self.controlled { 0x8029 } else { 0x802a }, &[7; 8]);
        if self.nominate {
            attribute(&mut out, 0x0025, &[]);
        }
        set_length(&mut out, 24);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.password.as_bytes());
        let tag = hmac::sign(&key, &out);
        attribute(&mut out, 0x0008, tag.as_ref());
        set_length(&mut out, 8);
        let crc = crc32(&out) ^ 0x5354_554e;
        attribute(&mut out, 0x8028, &crc.to_be_bytes());
        out
    }
}

/// The transaction of a success response; `None` for anything else.
pub fn success(datagram: &[u8]) -> Option<[u8; 12]> {
    let ok = datagram.get(..2)? == [1, 1] && datagram.get(4..8)? == MAGIC_COOKIE;
    ok.then(|| datagram.get(8..20)?.try_into().ok()).flatten()
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The length counts an attribute of `coming` bytes that is not there yet.
fn set_length(out: &mut [u8], coming: usize) {
    let len = (out.len() - 20 + coming) as u16;
    out[2..4].copy_from_slice(&len.to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (0..8).fold(crc, |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 });
    !bytes.iter().fold(!0, |crc, &byte| {
        let low = step((crc ^ u32::from(byte)) & 0xff);
        low ^ crc >> 8
    })
}

#[cfg(test)]
mod tests {
    use veche_sfu_core::stun::{BindingRequest, IntegrityKey};

    use super::*;

    #[test]
    fn the_server_understands_our_requests() {
        let request = Request {
            transaction: [9; 12],
            remote_ufrag: "server",
            local_ufrag: "client",
            password: "a password of twenty-two or more",
            priority: 77,
            controlled: false,
            nominate: true,
        };
        let datagram = request.write();
        let parsed = BindingRequest::parse(&datagram).unwrap();
        assert_eq!((parsed.local_ufrag, parsed.remote_ufrag), ("server", "client"));
        assert!(parsed.use_candidate);
        assert!(parsed.verify(&IntegrityKey::new(request.password)));
    }
}
