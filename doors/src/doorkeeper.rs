//! Who may come and how often: what a running server can be told anew.

use std::net::IpAddr;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Uri};
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::origin;
use crate::rate::{AddressBuckets, TokenBucket};

/// The rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Origins whose pages may use the server; `*` for all.
    pub allowed_origins: Vec<String>,
    /// How many messages a connection may send in a second, on average.
    pub messages_per_second: u32,
    /// How many messages a connection may send at once.
    pub message_burst: u32,
    /// How many requests an address may make in a second, on average; 0 for any number.
    pub requests_per_second: u32,
    /// How many requests an address may make at once.
    pub request_burst: u32,
}

/// Keeps the rules that are in force, and what each address may still ask.
#[derive(Debug)]
pub struct Doorkeeper {
    policy: ArcSwap<Policy>,
    addresses: Mutex<AddressBuckets>,
}

impl Doorkeeper {
    /// With these rules, and nobody has asked yet.
    pub fn new(policy: Policy) -> Self {
        let addresses = AddressBuckets::new(policy.requests_per_second, policy.request_burst);
        Self { policy: ArcSwap::from_pointee(policy), addresses: Mutex::new(addresses) }
    }

    /// Other rules from now on, for those who are connected too.
    pub fn set(&self, policy: Policy) {
        self.addresses.lock().set_rate(policy.requests_per_second, policy.request_burst);
        self.policy.store(policy.into());
    }

    /// Whether a request may come from where it says it comes from.
    pub fn allows_origin(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        origin::is_allowed(headers, uri, &self.policy.load().allowed_origins)
    }

    /// An error where a page of another origin would change something, even by a request that asks for no leave: who sees no
    /// answer still sends.
    pub fn check_page(&self, request: &Request) -> Result<(), Error> {
        if request.method().is_safe() || self.allows_origin(request.headers(), request.uri()) {
            return Ok(());
        }
        let message = "pages of this origin may not send; add it to allowed_origins";
        Err(Error::new(ErrorKind::ForbiddenOrigin, message))
    }

    /// Whether pages of this origin may read answers.
    pub fn lists_origin(&self, origin: &HeaderValue) -> bool {
        origin::is_listed(origin, &self.policy.load().allowed_origins)
    }

    /// Counts a request of an address; whether it may pass.
    pub fn takes_request(&self, address: IpAddr, now: Instant) -> bool {
        self.addresses.lock().take(address, now)
    }

    /// How many messages a connection may send in a second, and at once.
    pub fn message_rate(&self) -> (u32, u32) {
        let policy = self.policy.load();
        (policy.messages_per_second, policy.message_burst)
    }

    /// What a new connection may send.
    pub fn messages(&self, now: Instant) -> TokenBucket {
        let (per_second, burst) = self.message_rate();
        TokenBucket::new(per_second, burst, now)
    }
}
