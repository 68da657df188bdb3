//! One participant's negotiations: each offer is answered in the light of those before.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

use super::answer::Answer;
use super::codec::Flow;
use super::offer::{Content, Direction, Offer, OfferedMedia, OfferedSection};
use super::parser::error;
use super::transport::{OfferedSetup, OfferedTransport};
use super::ufrag;
use super::{
    Fingerprint, IceCredentials, Negotiation, OfferError, PublishedSection, Section, SectionUse, SetupRole,
    SlotSection,
};
use crate::control::SectionLabels;
use crate::engine::Candidate;
use crate::ids::{Mid, Ssrc, WorkerId};
use crate::media::{Codecs, ExtensionIds, MediaKind};

/// The server's ICE credentials: 72 and 192 bits, in characters of 6 bits (RFC 8839 section 5.4 asks for 24 and 128).
const UFRAG_LEN: usize = 12;
const PWD_LEN: usize = 32;
const CNAME_LEN: usize = 16;

/// What the server says about itself in every answer.
#[derive(Clone, Debug)]
pub struct LocalDescription {
    /// The addresses that clients reach it at, best first.
    pub candidates: Vec<Candidate>,
    /// The fingerprint of its certificate.
    pub fingerprint: Fingerprint,
    /// The largest data channel message that it takes, in bytes.
    pub max_message_size: usize,
    /// Which worker it is: told in the user name fragments, see [`ufrag::worker`].
    pub worker: WorkerId,
}

/// Answers the offers of one participant.
#[derive(Debug)]
pub struct Negotiator {
    local: LocalDescription,
    rng: StdRng,
    /// The id in the `o=` line of all answers.
    id: u64,
    /// How many answers there were.
    answers: u64,
    /// The CNAME of all slots: one, since they all come from one machine with one clock (RFC 3550 section 6.5.1).
    cname: String,
    session: Option<Session>,
}

/// What is agreed on with the browser session that offered last.
#[derive(Clone, Debug)]
struct Session {
    /// User name and session id of its `o=` line.
    origin: (String, String),
    ice_local: IceCredentials,
    ice_remote: IceCredentials,
    fingerprint: Fingerprint,
    setup: SetupRole,
    sections: Vec<Section>,
}

/// How an offer relates to the session so far.
struct Continuity<'a> {
    /// The session that goes on; `None` for a new one.
    session: Option<&'a Session>,
    ice_remote: IceCredentials,
    ice_restarted: bool,
    fingerprint: Fingerprint,
    setup: SetupRole,
}

impl Negotiator {
    /// For a participant who has not offered yet. `rng` chooses credentials and SSRCs: its seed must be secret.
    pub fn new(local: LocalDescription, mut rng: StdRng) -> Self {
        // An id of at most 62 bits, which every stack can read as a signed number (RFC 9429 section 5.2.1).
        let id = rng.next_u64() >> 2;
        let cname = token(&mut rng, CNAME_LEN);
        Self { local, rng, id, answers: 0, cname, session: None }
    }

    /// Answers an offer. When it cannot be used, the error says why, and the session stays as it was.
    ///
    /// Of `labels`, the pairs matter here; those that name anything but an audio and a video slot are passed over.
    pub fn answer(&mut self, offer: &str, labels: &SectionLabels) -> Result<Negotiation, OfferError> {
        let offer = Offer::parse(offer)?;
        let continuity = compare(self.session.as_ref(), &offer)?;
        let before = continuity.session.map_or(&[][..], |session| &session.sections);
        check_sections(before, &offer)?;

        // From here on nothing fails.
        let mut sections = decide(&offer, before, &mut self.rng);
        pair(&mut sections, labels);
        let kept =
            continuity.session.filter(|_| !continuity.ice_restarted).map(|session| session.ice_local.clone());
        let session = Session {
            origin: (offer.origin.0.to_owned(), offer.origin.1.to_owned()),
            ice_local: kept.unwrap_or_else(|| credentials(self.local.worker, &mut self.rng)),
            ice_remote: continuity.ice_remote,
            fingerprint: continuity.fingerprint,
            setup: continuity.setup,
            sections,
        };
        self.answers += 1;
        let answer = Answer {
            offer: &offer,
            sections: &session.sections,
            local: &self.local,
            ice: &session.ice_local,
            setup: session.setup,
            session: (self.id, self.answers),
            cname: &self.cname,
        };
        let (extensions, writable_extensions) = extension_ids(&offer, &session.sections);
        let negotiation = Negotiation {
            answer: answer.write(),
            new_session: continuity.session.is_none(),
            ice_restarted: continuity.ice_restarted,
            ice_local: session.ice_local.clone(),
            ice_remote: session.ice_remote.clone(),
            fingerprint: session.fingerprint,
            setup: session.setup,
            extensions,
            writable_extensions,
            cname: self.cname.clone(),
            sections: session.sections.clone(),
        };
        self.session = Some(session);
        Ok(negotiation)
    }
}

/// Finds out whether the offer goes on with a session.
fn compare<'a>(session: Option<&'a Session>, offer: &Offer<'_>) -> Result<Continuity<'a>, OfferError> {
    let Some(transport) = &offer.transport else {
        // Everything is stopped. That says nothing new about the transport, but needs one to have been.
        let Some(session) = session.filter(|session| session.is_origin(offer.origin)) else {
            return error(0, "the offer uses none of its sections");
        };
        return Ok(Continuity {
            session: Some(session),
            ice_remote: session.ice_remote.clone(),
            ice_restarted: false,
            fingerprint: session.fingerprint,
            setup: session.setup,
        });
    };
    let session = session.filter(|session| session.goes_on(offer.origin, transport));
    Ok(Continuity {
        session,
        ice_remote: transport.ice.clone(),
        ice_restarted: session.is_some_and(|session| session.ice_remote != transport.ice),
        fingerprint: transport.fingerprint,
        setup: choose_setup(session.map(|session| session.setup), transport)?,
    })
}

impl Session {
    fn is_origin(&self, origin: (&str, &str)) -> bool {
        (self.origin.0.as_str(), self.origin.1.as_str()) == origin
    }

    /// The same browser session has the same certificate, and the `o=` line of before. Some stacks (aiortc) write
    /// another `o=` into each offer: ICE credentials, which nobody else has, say that they are still the same.
    /// A session whose sections were all stopped has lost its transport: what comes then is a new one.
    fn goes_on(&self, origin: (&str, &str), transport: &OfferedTransport) -> bool {
        self.fingerprint == transport.fingerprint
            && (self.is_origin(origin) || self.ice_remote == transport.ice)
            && self.sections.iter().any(|section| !matches!(section.usage, SectionUse::Stopped))
    }
}

/// Passive wherever the client lets us; a role once taken stays (RFC 8842 section 5.5).
fn choose_setup(before: Option<SetupRole>, transport: &OfferedTransport) -> Result<SetupRole, OfferError> {
    match (before, transport.setup) {
        (Some(role), OfferedSetup::ActPass) => Ok(role),
        (None | Some(SetupRole::Passive), OfferedSetup::Active) | (None, OfferedSetup::ActPass) => {
            Ok(SetupRole::Passive)
        }
        (None | Some(SetupRole::Active), OfferedSetup::Passive) => Ok(SetupRole::Active),
        (Some(_), _) => error(transport.setup_line, "the DTLS roles cannot change within a session"),
    }
}

/// Sections only ever grow in number, and keep place, name and kind until they are stopped (RFC 3264 section 8,
/// RFC 9429 section 5.2.2).
fn check_sections(before: &[Section], offer: &Offer<'_>) -> Result<(), OfferError> {
    if offer.sections.len() < before.len() {
        let line = offer.sections.last().map_or(0, |section| section.line);
        let (now, earlier) = (offer.sections.len(), before.len());
        return error(
            line,
            format!("the offer has {now} sections, the one before had {earlier}; stop them instead"),
        );
    }
    for (section, offered) in before.iter().zip(&offer.sections) {
        let kind = match &section.usage {
            SectionUse::Stopped => continue,
            SectionUse::Published(published) => kind_name(published.kind),
            SectionUse::Slot(slot) => kind_name(slot.kind),
            SectionUse::Data(_) => "application",
        };
        let mid = &section.mid;
        if offered.mid.as_ref().is_some_and(|offered| offered != mid) {
            return error(
                offered.line,
                format!("this was section `{mid}`; sections keep place and mid until stopped"),
            );
        }
        if offered.media != kind {
            let reason =
                format!("section `{mid}` is of kind {kind}; it must be stopped before it becomes another");
            return error(offered.line, reason);
        }
    }
    Ok(())
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

/// Decides what each section is used for.
fn decide(offer: &Offer<'_>, before: &[Section], rng: &mut StdRng) -> Vec<Section> {
    let mut taken: BTreeSet<Ssrc> = offer.ssrcs.iter().copied().collect();
    for section in before {
        if let SectionUse::Slot(slot) = &section.usage {
            taken.extend([slot.ssrc, slot.rtx_ssrc]);
        }
    }
    let mut fresh = || {
        loop {
            let ssrc = Ssrc(rng.random());
            if ssrc.0 != 0 && taken.insert(ssrc) {
                return ssrc;
            }
        }
    };
    let mut has_data = false;
    let mut sections: Vec<Section> = Vec::with_capacity(offer.sections.len());
    for (index, offered) in offer.sections.iter().enumerate() {
        let before = before.get(index);
        let usage = match &offered.content {
            Content::Stopped | Content::Unsupported => SectionUse::Stopped,
            // One SCTP association serves all channels.
            Content::Data(_) if has_data => SectionUse::Stopped,
            Content::Data(data) => {
                has_data = true;
                SectionUse::Data(*data)
            }
            Content::Media(media) => match flow(media, before) {
                Flow::FromClient => publish(media),
                Flow::ToClient => slot(media, before, &mut fresh),
            },
        };
        let mid = section_mid(offered, before, index);
        sections.push(Section { mid, usage });
    }
    sections
}

/// Which side of a section sends. One that is inactive stays what it was; a new one that names a stream, or layers,
/// is going to be published.
fn flow(media: &OfferedMedia, before: Option<&Section>) -> Flow {
    let client_sends = match media.direction {
        Direction::SendRecv | Direction::SendOnly => true,
        Direction::RecvOnly => false,
        Direction::Inactive => match before.map(|section| &section.usage) {
            Some(SectionUse::Published(_)) => true,
            Some(SectionUse::Slot(_)) => false,
            _ => media.has_stream || media.layers.simulcast,
        },
    };
    if client_sends { Flow::FromClient } else { Flow::ToClient }
}

fn publish(media: &OfferedMedia) -> SectionUse {
    let codecs = negotiated(media, Flow::FromClient);
    if codecs.is_empty() {
        return SectionUse::Stopped;
    }
    SectionUse::Published(PublishedSection {
        kind: media.kind,
        active: media.direction != Direction::Inactive,
        codecs,
        layers: media.layers.layers.clone(),
    })
}

fn slot(media: &OfferedMedia, before: Option<&Section>, fresh: &mut impl FnMut() -> Ssrc) -> SectionUse {
    let codecs = negotiated(media, Flow::ToClient);
    if codecs.is_empty() {
        return SectionUse::Stopped;
    }
    let (ssrc, rtx_ssrc) = match before.map(|section| &section.usage) {
        Some(SectionUse::Slot(slot)) => (slot.ssrc, slot.rtx_ssrc),
        _ => (fresh(), fresh()),
    };
    let active = media.direction != Direction::Inactive;
    SectionUse::Slot(SlotSection { kind: media.kind, active, codecs, ssrc, rtx_ssrc, pair: None })
}

fn negotiated(media: &OfferedMedia, flow: Flow) -> Codecs {
    media.codecs(flow).iter().map(|codec| codec.negotiated.clone()).collect()
}

/// A stopped section may come without its mid; then it keeps the one it had.
fn section_mid(offered: &OfferedSection<'_>, before: Option<&Section>, index: usize) -> Mid {
    let known = offered.mid.clone().or_else(|| before.map(|section| section.mid.clone()));
    known.unwrap_or_else(|| Mid::new(&format!("stopped-{index}")).expect("letters, digits and a dash"))
}

/// Joins the slots that the client wants in lip sync, each to one other.
fn pair(sections: &mut [Section], labels: &SectionLabels) {
    for (audio, video) in &labels.pairs {
        let find = |mid: &Mid, kind: MediaKind| {
            sections.iter().position(|section| {
                let free = |slot: &SlotSection| slot.kind == kind && slot.pair.is_none();
                section.mid == *mid && matches!(&section.usage, SectionUse::Slot(slot) if free(slot))
            })
        };
        let (Some(a), Some(v)) = (find(audio, MediaKind::Audio), find(video, MediaKind::Video)) else {
            continue;
        };
        for (index, other) in [(a, video), (v, audio)] {
            if let Some(Section { usage: SectionUse::Slot(slot), .. }) = sections.get_mut(index) {
                slot.pair = Some(other.clone());
            }
        }
    }
}

/// The ids that were agreed on, and those of them that the client takes in its slots.
fn extension_ids(offer: &Offer<'_>, sections: &[Section]) -> (ExtensionIds, ExtensionIds) {
    let (mut all, mut writable) = (ExtensionIds::default(), ExtensionIds::default());
    for (offered, section) in offer.sections.iter().zip(sections) {
        let Content::Media(media) = &offered.content else { continue };
        let flow = match section.usage {
            SectionUse::Published(_) => Flow::FromClient,
            SectionUse::Slot(_) => Flow::ToClient,
            SectionUse::Stopped | SectionUse::Data(_) => continue,
        };
        for offered in media.extensions.iter().filter(|offered| offered.answer(flow).is_some()) {
            all.set(offered.extension, offered.id);
            if flow == Flow::ToClient {
                writable.set(offered.extension, offered.id);
            }
        }
    }
    (all, writable)
}

fn credentials(worker: WorkerId, rng: &mut StdRng) -> IceCredentials {
    IceCredentials { ufrag: ufrag::mark(worker) + &token(rng, UFRAG_LEN), pwd: token(rng, PWD_LEN) }
}

/// Random characters, 6 bits each.
fn token(rng: &mut StdRng, len: usize) -> String {
    (0..len).map(|_| ufrag::character(rng.next_u32())).collect()
}
