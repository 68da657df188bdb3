//! SDP: two offers of one participant, in a row. An offer that is refused must leave the session as it was.

use rand::SeedableRng;
use rand::rngs::StdRng;
use veche_sfu_core::control::{PublishedLabel, SectionLabels};
use veche_sfu_core::engine::Candidate;
use veche_sfu_core::ids::Mid;
use veche_sfu_core::media::Source;
use veche_sfu_core::sdp::negotiator::{LocalDescription, Negotiator};
use veche_sfu_core::sdp::{Fingerprint, Negotiation, OfferError};

/// What stands between two offers; alone, an offer is made twice.
pub(crate) const SEPARATOR: &str = "\n-----\n";

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (first, second) = text.split_once(SEPARATOR).unwrap_or((&text, &text));
    let local = LocalDescription {
        candidates: vec![Candidate { address: ([127, 0, 0, 1], 4000).into(), tcp: false }],
        fingerprint: Fingerprint([7; 32]),
        max_message_size: 1 << 18,
    };
    let mut negotiator = Negotiator::new(local, StdRng::seed_from_u64(1));
    let labels = SectionLabels {
        published: vec![PublishedLabel {
            mid: Mid::new("1").expect("a token"),
            source: Source::Screen,
            muted: false,
        }],
        pairs: vec![(Mid::new("2").expect("a token"), Mid::new("3").expect("a token"))],
    };
    let before = check(first, &negotiator.answer(first, &labels));
    let after = check(second, &negotiator.answer(second, &labels));
    if before && !after {
        let again = negotiator.answer(first, &labels).expect("a refused offer has changed nothing");
        assert!(!again.new_session, "the session goes on");
        assert!(!again.ice_restarted, "the credentials are the same");
    }
}

/// Whether there is an answer. It has a section for each of the offer.
fn check(offer: &str, result: &Result<Negotiation, OfferError>) -> bool {
    match result {
        Ok(negotiation) => {
            let sections = negotiation.answer.lines().filter(|line| line.starts_with("m=")).count();
            assert_eq!(sections, negotiation.sections.len(), "each section is answered");
            assert!(negotiation.answer.ends_with("\r\n"));
            assert!(!negotiation.answer.replace("\r\n", "").contains(['\r', '\n']), "lines end with CRLF");
            true
        }
        Err(error) => {
            assert!(error.line <= offer.split('\n').count(), "the line is one of the offer");
            assert!(!error.reason.is_empty());
            false
        }
    }
}
