//! SDP: two offers of one participant, in a row. An offer that is refused must leave the session as it was.

use rand::SeedableRng;
use rand::rngs::StdRng;
use veche_sfu_core::control::{PublishedLabel, SectionLabels};
use veche_sfu_core::engine::Candidate;
use veche_sfu_core::ids::{Mid, WorkerId};
use veche_sfu_core::media::Source;
use veche_sfu_core::sdp::negotiator::{LocalDescription, Negotiator};
use veche_sfu_core::sdp::{Fingerprint, Negotiation, OfferError, SectionUse};

/// What stands between two offers; alone, an offer is made twice.
pub(crate) const SEPARATOR: &str = "\n-----\n";

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (first, second) = text.split_once(SEPARATOR).unwrap_or((&text, &text));
    let local = LocalDescription {
        candidates: vec![Candidate { address: ([127, 0, 0, 1], 4000).into(), tcp: false }],
        fingerprint: Fingerprint([7; 32]),
        max_message_size: 1 << 18,
        worker: WorkerId(0),
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
    let before = negotiator.answer(first, &labels);
    check(first, &before);
    let after = negotiator.answer(second, &labels);
    check(second, &after);
    if let (Ok(before), Err(_)) = (before, after) {
        let again = negotiator.answer(first, &labels).expect("a refused offer has changed nothing");
        // A session without a section in use has no transport to go on with.
        let in_use = before.sections.iter().any(|section| !matches!(section.usage, SectionUse::Stopped));
        assert_eq!(again.new_session, !in_use, "the session goes on");
        assert!(!again.ice_restarted, "the credentials are the same");
    }
}

/// An answer has a section for each of the offer; an error names a line of it.
fn check(offer: &str, result: &Result<Negotiation, OfferError>) {
    match result {
        Ok(negotiation) => {
            let sections = negotiation.answer.lines().filter(|line| line.starts_with("m=")).count();
            assert_eq!(sections, negotiation.sections.len(), "each section is answered");
            assert!(negotiation.answer.ends_with("\r\n"));
            assert!(!negotiation.answer.replace("\r\n", "").contains(['\r', '\n']), "lines end with CRLF");
        }
        Err(error) => {
            assert!(error.line <= offer.split('\n').count(), "the line is one of the offer");
            assert!(!error.reason.is_empty());
        }
    }
}
