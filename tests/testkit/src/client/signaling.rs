//! What a client offers, and what it takes from the answer.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use veche_sfu_core::control::{PublishedLabel, SectionLabels};
use veche_sfu_core::ids::Mid;
use veche_sfu_core::media::MediaKind;
use veche_sfu_core::sdp::IceCredentials;

use super::sdp::{Answer, OfferTransport, Section, write_offer};
use super::{Client, ClientConfig, RedUse, Remote, Sender, SlotReceiver};

impl Client {
    /// The offer and what its sections are.
    pub fn offer(&mut self) -> (String, SectionLabels) {
        self.session.1 += 1;
        let mut fingerprint = self.certificate.fingerprint();
        fingerprint.0[0] ^= u8::from(self.config.wrong_fingerprint);
        let (session, version) = self.session;
        let transport = OfferTransport { session, version, ice: &self.ice, fingerprint };
        (write_offer(&transport, &self.sections(), &self.config.decodes, self.config.red), self.labels())
    }

    /// Takes the answer.
    pub fn handle_answer(&mut self, now: Instant, text: &str) {
        let answer = Answer::parse(text);
        let (Some(ice), Some(fingerprint), Some(address)) =
            (answer.ice, answer.fingerprint, answer.candidate)
        else {
            return;
        };
        let restarted = self.remote.as_ref().is_none_or(|remote| remote.ice != ice);
        self.remote = Some(Remote { ice, fingerprint, address });
        if restarted {
            for path in &mut self.paths {
                path.check_at = now;
                path.answered = false;
                path.transaction = self.rng.random();
            }
        }
        for section in &answer.sections {
            let known = self.slots.iter().any(|slot| slot.mid.as_str() == section.mid);
            let kind = match section.mid.as_bytes().first() {
                Some(b'A') => MediaKind::Audio,
                Some(b'V') => MediaKind::Video,
                _ => continue,
            };
            if known || section.stopped {
                continue;
            }
            let Some(mid) = Mid::new(&section.mid) else { continue };
            let Some((ssrc, rtx)) =
                section.pair.map(|(m, r)| (m, Some(r))).or(section.ssrcs.first().map(|s| (*s, None)))
            else {
                continue;
            };
            self.slots.push(SlotReceiver::new(mid, kind, ssrc, rtx));
        }
    }

    fn sections(&self) -> Vec<Section> {
        let mut sections = Vec::new();
        for (index, track) in self.config.tracks.iter().enumerate() {
            let mid = track_mid(index);
            let of_track: Vec<&Sender> = self.senders.iter().filter(|s| s.mid == mid).collect();
            let rids: Vec<&'static str> = of_track.iter().filter_map(|s| s.rid).collect();
            let rtx = track.kind() == MediaKind::Video;
            let ssrcs = rids.is_empty().then(|| (of_track[0].ssrc, rtx.then_some(of_track[0].rtx_ssrc)));
            sections.push(Section::Publish { mid, codec: track.codec, rids, ssrcs, active: true });
        }
        let slots =
            [(MediaKind::Audio, self.config.audio_slots), (MediaKind::Video, self.config.video_slots)];
        for (kind, count) in slots {
            sections.extend((0..count).map(|index| Section::Slot { mid: slot_mid(kind, index), kind }));
        }
        if self.config.data {
            sections.push(Section::Data { mid: Mid::new("data").expect("letters") });
        }
        sections
    }

    fn labels(&self) -> SectionLabels {
        let published = self.config.tracks.iter().enumerate().map(|(index, track)| PublishedLabel {
            mid: track_mid(index),
            source: track.source,
            muted: false,
        });
        let pair = |index| (slot_mid(MediaKind::Audio, index), slot_mid(MediaKind::Video, index));
        SectionLabels { published: published.collect(), pairs: (0..self.config.pairs).map(pair).collect() }
    }
}

/// The name of a published section.
pub fn track_mid(index: usize) -> Mid {
    Mid::new(&format!("p{index}")).expect("a letter and digits")
}

/// The name of a slot: A0, A1, … and V0, V1, …
pub fn slot_mid(kind: MediaKind, index: usize) -> Mid {
    let letter = if kind == MediaKind::Audio { 'A' } else { 'V' };
    Mid::new(&format!("{letter}{index}")).expect("a letter and digits")
}

pub(super) fn make_senders(
    source: u32,
    config: &ClientConfig,
    now: Instant,
    rng: &mut StdRng,
) -> Vec<Sender> {
    let mut senders = Vec::new();
    for (index, track) in config.tracks.iter().enumerate() {
        // Nobody's cameras tick together.
        let first = now + Duration::from_micros(rng.random_range(0..20_000));
        for (layer, layer_config) in track.layers.iter().enumerate() {
            let layer = (layer as u8, *layer_config);
            let mut sender = Sender::new(track_mid(index), track, layer, source, first, rng);
            sender.red = config.red == RedUse::Sent && track.kind() == MediaKind::Audio;
            senders.push(sender);
        }
    }
    senders
}

pub(super) fn credentials(rng: &mut StdRng) -> IceCredentials {
    let mut token = |len| (0..len).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect();
    IceCredentials { ufrag: token(8), pwd: token(24) }
}
