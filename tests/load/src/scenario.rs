//! Who joins which room, and what they publish and watch.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::RngExt;
use rand::rngs::StdRng;
use veche_sfu_core::ids::Ssrc;
use veche_sfu_core::media::{Codec, MediaKind, Source};

use crate::negotiation::{PublishedLayer, PublishedTrack, Slots};
use crate::publisher::Media;
use crate::recording::Recording;
use crate::synthetic::{MIN_PAYLOAD, Video, VideoShape};
use crate::voice::{Speech, Voice};

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How many rooms.
    pub rooms: usize,
    /// In each room, those who only publish.
    pub publishers: usize,
    /// In each room, those who only watch.
    pub subscribers: usize,
    /// In each room, those who publish and watch all others.
    pub participants: usize,
    /// Everybody who publishes has a camera.
    pub video: Option<VideoTrack>,
    /// Everybody who publishes has a microphone.
    pub audio: Option<AudioTrack>,
    /// Pictures that one watches at most; all of the others' where it is not said.
    pub video_slots: Option<usize>,
    /// Voices that one hears at most; all of the others' where it is not said.
    pub audio_slots: Option<usize>,
}

/// What a camera sends.
#[derive(Clone, Debug)]
pub enum VideoTrack {
    /// Made-up frames; with simulcast in three layers.
    Synthetic { shape: VideoShape, simulcast: bool },
    /// A recording.
    Recorded(Arc<Recording>),
}

/// What a microphone sends.
#[derive(Clone, Debug)]
pub enum AudioTrack {
    /// Made-up packets of so many bytes.
    Synthetic { payload: usize, speech: Speech },
    /// A recording; its levels are made up.
    Recorded { recording: Arc<Recording>, speech: Speech },
}

/// Somebody in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// The room.
    pub room: usize,
    /// Which one in the room, over all kinds.
    pub number: usize,
    /// Whether they publish.
    pub publishes: bool,
    /// Whether they watch the others.
    pub watches: bool,
}

/// The layers of simulcast as a share of the whole stream's packets, and how often the sides of a picture are halved: as
/// libwebrtc divides 720p, about 150 and 500 of 2,500 kbit/s, with rids as browsers' applications call them.
const LAYERS: [(&str, u32, u32); 3] = [("q", 10, 2), ("h", 4, 1), ("f", 1, 0)];

impl Scenario {
    /// Whether it makes sense.
    pub fn check(&self) -> Result<()> {
        ensure!(self.rooms > 0, "there must be a room");
        ensure!(self.publishers + self.participants > 0, "somebody must publish");
        ensure!(self.video.is_some() || self.audio.is_some(), "something must be published");
        ensure!(self.publishers + self.participants < 256, "255 publishers in a room are enough");
        match &self.video {
            Some(VideoTrack::Synthetic { shape, .. }) => {
                ensure!((1..=240).contains(&shape.rate), "1 to 240 frames per second");
                ensure!((1..=1000).contains(&shape.packets), "1 to 1000 packets per frame");
                ensure!(
                    (MIN_PAYLOAD..=1200).contains(&shape.payload),
                    "payloads have {MIN_PAYLOAD} to 1200 bytes"
                );
            }
            Some(VideoTrack::Recorded(recording)) => {
                ensure!(recording.codec.kind() == MediaKind::Video, "the video file is sound");
            }
            None => {}
        }
        match &self.audio {
            Some(AudioTrack::Synthetic { payload, .. }) => {
                ensure!((20..=1200).contains(payload), "a voice's payloads have 20 to 1200 bytes");
            }
            Some(AudioTrack::Recorded { recording, .. }) => {
                ensure!(recording.codec.kind() == MediaKind::Audio, "the audio file is video");
            }
            None => {}
        }
        Ok(())
    }

    /// Everybody, those who publish first, so that the others find something to watch.
    pub fn people(&self) -> Vec<Person> {
        let kinds = [
            (self.publishers, true, false),
            (self.participants, true, true),
            (self.subscribers, false, true),
        ];
        let mut people = Vec::new();
        for (index, (count, publishes, watches)) in kinds.into_iter().enumerate() {
            let before: usize = kinds[..index].iter().map(|(count, ..)| count).sum();
            for number in before..before + count {
                people.extend((0..self.rooms).map(|room| Person { room, number, publishes, watches }));
            }
        }
        people
    }

    /// What somebody publishes, with fresh SSRCs.
    pub fn tracks(&self, rng: &mut StdRng) -> Vec<PublishedTrack> {
        let mut layer = |rid| {
            let (ssrc, rtx_ssrc) = (Ssrc(rng.random_range(2..u32::MAX)), Ssrc(rng.random_range(2..u32::MAX)));
            PublishedLayer { rid, ssrc, rtx_ssrc }
        };
        let mut tracks = Vec::new();
        if let Some(codec) = self.video_codec() {
            let layers = match &self.video {
                Some(VideoTrack::Synthetic { simulcast: true, .. }) => {
                    LAYERS.map(|(rid, ..)| layer(Some(rid))).to_vec()
                }
                _ => vec![layer(None)],
            };
            tracks.push(PublishedTrack { mid: "p0".to_owned(), source: Source::Camera, codec, layers });
        }
        if self.audio.is_some() {
            let (mid, layers) = ("p1".to_owned(), vec![layer(None)]);
            tracks.push(PublishedTrack { mid, source: Source::Microphone, codec: Codec::Opus, layers });
        }
        tracks
    }

    /// What each layer of [`Scenario::tracks`] sends.
    pub fn media(&self, person: &Person, rng: &mut StdRng) -> Vec<(Media, Option<Voice>)> {
        let mut media = Vec::new();
        match &self.video {
            Some(VideoTrack::Synthetic { shape, simulcast: false }) => {
                media.push((Media::Video(Video::new(*shape, rng.random())), None));
            }
            Some(VideoTrack::Synthetic { shape, simulcast: true }) => {
                for (_, share, halvings) in LAYERS {
                    let size = (shape.size.0 >> halvings, shape.size.1 >> halvings);
                    let shape = VideoShape { size, packets: shape.packets.div_ceil(share), ..*shape };
                    media.push((Media::Video(Video::new(shape, rng.random())), None));
                }
            }
            Some(VideoTrack::Recorded(recording)) => media.push(recorded(recording, None, rng)),
            None => {}
        }
        let place = (person.number as u32, (self.publishers + self.participants) as u32);
        match &self.audio {
            Some(AudioTrack::Synthetic { payload, speech }) => {
                media.push((Media::Voice(*payload), Some(Voice::new(*speech, place, rng.random()))));
            }
            Some(AudioTrack::Recorded { recording, speech }) => {
                let voice = Voice::new(*speech, place, rng.random());
                media.push(recorded(recording, Some(voice), rng));
            }
            None => {}
        }
        media
    }

    /// What somebody wants to receive.
    pub fn slots(&self, person: &Person) -> Slots {
        if !person.watches {
            return Slots::default();
        }
        let others = self.publishers + self.participants - usize::from(person.publishes);
        let count =
            |wanted: bool, limit: Option<usize>| if wanted { limit.unwrap_or(others).min(others) } else { 0 };
        Slots {
            audio: count(self.audio.is_some(), self.audio_slots),
            video: count(self.video.is_some(), self.video_slots),
            codecs: self.video_codec().into_iter().collect(),
        }
    }

    /// How many packets should come out for each that goes in, where servers have nothing to choose.
    pub fn fan_out(&self) -> Option<f64> {
        let simulcast = matches!(self.video, Some(VideoTrack::Synthetic { simulcast: true, .. }));
        let all = self.publishers + self.participants;
        let limited = [self.video_slots, self.audio_slots].into_iter().flatten().any(|slots| slots < all);
        if simulcast || limited {
            return None;
        }
        let watching = (self.participants + self.subscribers) * all - self.participants;
        Some(watching as f64 / all as f64)
    }

    /// In a line.
    pub fn describe(&self, duration: Duration) -> String {
        let of = |count: usize, name: &str| (count > 0).then(|| format!("{count} {name}"));
        let people: Vec<String> = [
            of(self.publishers, "publishers"),
            of(self.participants, "participants"),
            of(self.subscribers, "subscribers"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let video = self.video.as_ref().map(|video| match video {
            VideoTrack::Synthetic { shape, simulcast } => {
                let layers = if *simulcast { ", three layers" } else { "" };
                format!("video {} x {} x {} bytes{layers}", shape.rate, shape.packets, shape.payload)
            }
            VideoTrack::Recorded(recording) => format!("recorded {}", recording.codec.name()),
        });
        let audio = self.audio.as_ref().map(|audio| match audio {
            AudioTrack::Synthetic { payload, .. } => format!("audio 50 x {payload} bytes"),
            AudioTrack::Recorded { .. } => "recorded opus".to_owned(),
        });
        let media: Vec<String> = video.into_iter().chain(audio).collect();
        format!(
            "{} rooms of {}; {}; {} s",
            self.rooms,
            people.join(" and "),
            media.join(" and "),
            duration.as_secs_f64()
        )
    }

    fn video_codec(&self) -> Option<Codec> {
        match self.video.as_ref()? {
            VideoTrack::Synthetic { .. } => Some(Codec::Vp8),
            VideoTrack::Recorded(recording) => Some(recording.codec),
        }
    }
}

/// Everybody begins somewhere else in the recording, where a decoder can.
fn recorded(recording: &Arc<Recording>, voice: Option<Voice>, rng: &mut StdRng) -> (Media, Option<Voice>) {
    let from = recording.next_key(rng.random_range(0..recording.frames.len()));
    (Media::Recorded(Arc::clone(recording), from, rng.random::<u16>() & 0x7fff), voice)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn scenario() -> Scenario {
        Scenario {
            rooms: 2,
            publishers: 1,
            subscribers: 3,
            participants: 2,
            video: Some(VideoTrack::Synthetic {
                shape: VideoShape { size: (1280, 720), rate: 30, packets: 10, payload: 1100 },
                simulcast: false,
            }),
            audio: Some(AudioTrack::Synthetic { payload: 100, speech: Speech::Spurts }),
            video_slots: None,
            audio_slots: None,
        }
    }

    #[test]
    fn publishers_come_first_and_everybody_watches_all_others() {
        let scenario = scenario();
        scenario.check().unwrap();
        let people = scenario.people();
        assert_eq!(people.len(), 12);
        assert!(people.is_sorted_by_key(|person| !person.publishes));
        let slots: Vec<(usize, usize)> = people
            .iter()
            .filter(|person| person.room == 1)
            .map(|person| (scenario.slots(person).audio, scenario.slots(person).video))
            .collect();
        assert_eq!(slots, [(0, 0), (2, 2), (2, 2), (3, 3), (3, 3), (3, 3)]);
        // Of three publishers: 5 watch the first, 4 each of the others.
        assert!((scenario.fan_out().unwrap() - 13.0 / 3.0).abs() < 1e-9);
        assert_eq!(Scenario { video_slots: Some(1), ..scenario }.fan_out(), None);
    }

    #[test]
    fn every_layer_has_something_to_send() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut scenario = scenario();
        let VideoTrack::Synthetic { simulcast, .. } = scenario.video.as_mut().unwrap() else {
            panic!("it is")
        };
        *simulcast = true;
        let person = scenario.people()[0];
        let tracks = scenario.tracks(&mut rng);
        let layers: usize = tracks.iter().map(|track| track.layers.len()).sum();
        let media = scenario.media(&person, &mut rng);
        assert_eq!((layers, media.len()), (4, 4));
        let packets: Vec<u32> = media
            .iter()
            .filter_map(
                |(media, _)| if let Media::Video(video) = media { Some(video.packets()) } else { None },
            )
            .collect();
        assert_eq!(packets, [1, 3, 10]);
        assert!(media[3].1.is_some() && media[0].1.is_none());
    }
}
