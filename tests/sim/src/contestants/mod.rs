//! Estimators that can be tried in the laboratory.

mod interceptor;
mod ours;
mod str0m_peer;

use std::time::Instant;

use rand::rngs::StdRng;
use veche_testkit::congestion::{Controller, Flow, Media, MediaConfig};

/// Something that sends media and finds out how fast it may.
#[derive(Clone, Copy)]
pub struct Contestant {
    /// As the table calls it.
    pub name: &'static str,
    /// A flow of it.
    pub flow: fn(Instant, MediaConfig, StdRng) -> Box<dyn Flow>,
}

impl std::fmt::Debug for Contestant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Contestant({})", self.name)
    }
}

/// The estimator of this server.
pub const OURS: Contestant = Contestant {
    name: "Veche",
    flow: |now, config, rng| media(now, config, rng, Box::new(ours::Ours::new(now))),
};

/// `Gcc` of the crate rtc-interceptor.
pub const INTERCEPTOR: Contestant = Contestant {
    name: "rtc-interceptor GCC",
    flow: |now, config, rng| {
        let controller = interceptor::Interceptor::new(config.source.min, config.source.max);
        media(now, config, rng, Box::new(controller))
    },
};

/// The estimator of str0m, inside of two of its peers.
pub const STR0M: Contestant = Contestant {
    name: "str0m",
    flow: |now, config, rng| Box::new(str0m_peer::Str0m::new(now, config.source, rng)),
};

/// All of them, ours first.
pub const ALL: [Contestant; 3] = [OURS, INTERCEPTOR, STR0M];

fn media(now: Instant, config: MediaConfig, rng: StdRng, controller: Box<dyn Controller>) -> Box<dyn Flow> {
    Box::new(Media::new(now, config, controller, rng))
}
