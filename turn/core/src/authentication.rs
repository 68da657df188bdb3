//! Who a request is from (RFC 8489 section 9.2.4).

use std::borrow::Cow;
use std::time::Instant;

use crate::answer::Signer;
use crate::credentials::{LongTermKey, PasswordAlgorithm};
use crate::five_tuple::FiveTuple;
use crate::refusals::Refusal;
use crate::request::Request;
use crate::server::Server;
use crate::wire::method;

/// A request that is somebody's.
#[derive(Debug)]
pub(crate) struct Authentic {
    pub(crate) name: Box<str>,
    pub(crate) signer: Signer,
}

/// Why it is nobody's; signed when only the nonce is old.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) reason: Refusal,
    pub(crate) signer: Option<Signer>,
}

impl From<Refusal> for Denied {
    fn from(reason: Refusal) -> Self {
        Self { reason, signer: None }
    }
}

impl Server {
    /// Finds out who signed a request. Makes no state, whatever comes.
    pub(crate) fn authenticate(
        &self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
    ) -> Result<Authentic, Denied> {
        let sha256 = request.integrity_sha256.is_some();
        let signature = request.integrity_sha256.or(request.integrity).ok_or(Refusal::Unauthenticated)?;
        let (Some(nonce), Some(_)) = (request.nonce, request.realm) else {
            return Err(Refusal::BadRequest.into());
        };
        let algorithm = password_algorithm(request)?;
        let name = &*self.name_of(request)?;
        let verify = |key: &LongTermKey| key.ready(sha256).verify(signature.signed, signature.tag);
        // Who had a good credential keeps the allocation for its life, also when the credential's time is over meanwhile: a
        // call must not end because it began long ago. With a new connection it may bind what belongs to that, and nothing else.
        let binds = request.connection.filter(|_| request.method == method::CONNECTION_BIND);
        let own = self
            .allocation_of(from, now)
            .or_else(|| self.allocation_of_connection(binds?, now))
            .filter(|allocation| *allocation.name == *name && allocation.key.algorithm() == algorithm);
        let key = match own {
            Some(allocation) => Some(allocation.key).filter(verify),
            None => self
                .credentials
                .passwords(name, self.unix_time(now))?
                .iter()
                .map(|password| LongTermKey::new(algorithm, name, &self.config.realm, password))
                .find(verify),
        };
        let signer = Signer { key: key.ok_or(Refusal::WrongPassword)?, sha256 };
        if !self.config.nonce_key.is_valid(nonce, from.remote.ip(), self.unix_time(now)) {
            return Err(Denied { reason: Refusal::StaleNonce, signer: Some(signer) });
        }
        Ok(Authentic { name: name.into(), signer })
    }

    fn name_of<'a>(&'a self, request: &Request<'a>) -> Result<Cow<'a, str>, Refusal> {
        match (request.username, request.userhash) {
            (Some(name), _) => std::str::from_utf8(name).map(Cow::from).map_err(|_| Refusal::UnknownUser),
            (None, Some(hash)) => self.credentials.name(hash).ok_or(Refusal::UnknownUser),
            (None, None) => Err(Refusal::BadRequest),
        }
    }
}

/// The algorithm that the client chose. It repeats the offer, so that nobody on the way can have taken the better one out.
fn password_algorithm(request: &Request<'_>) -> Result<PasswordAlgorithm, Refusal> {
    match (request.password_algorithm, request.password_algorithms) {
        (None, None) => Ok(PasswordAlgorithm::Md5),
        (Some(chosen), Some(offer)) if offer == PasswordAlgorithm::OFFERED => {
            PasswordAlgorithm::read(chosen).ok_or(Refusal::BadRequest)
        }
        _ => Err(Refusal::BadRequest),
    }
}
