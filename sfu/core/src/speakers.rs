//! Who speaks in a room, from the audio levels that microphones send along (RFC 6464).

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use slab::Slab;

use crate::control::Speaker;
use crate::ids::ParticipantId;

/// The voices of a room.
///
/// Two questions are answered. Who speaks, for people to see: the loudest first, calmly. And whose microphones go to
/// audio slots when there are fewer slots than microphones: somebody who begins to speak comes first within 60 ms and
/// stays there for two seconds, whatever others do.
#[derive(Debug, Default)]
pub struct Speakers {
    voices: Slab<Voice>,
    voice_by_participant: FxHashMap<ParticipantId, usize>,
    /// All voices, the best claim to an audio slot first.
    order: Vec<usize>,
    ranked: Vec<ParticipantId>,
    ranked_at: Option<Instant>,
    /// What was told last.
    told: Vec<Speaker>,
    told_at: Option<Instant>,
    reordered_at: Option<Instant>,
    listed: Vec<Speaker>,
}

/// A list of speakers is told so often at most.
const TELL_INTERVAL: Duration = Duration::from_millis(250);

/// The most speakers in the list.
const MAX_TOLD: usize = 32;

/// A level that moved by less is not worth telling, in dB.
const TOLD_STEP: u8 = 10;

/// Who stands in front stays there unless another is louder by this, in dB ...
const PRECEDENCE: f32 = 5.0;

/// ... and the list was not reordered for this long.
const DWELL: Duration = Duration::from_secs(1);

/// The claim to a slot of somebody who began to speak.
const HOLD: Duration = Duration::from_secs(2);

/// The ranking is renewed so often even if nobody begins to speak, because claims end by themselves.
const RANK_INTERVAL: Duration = Duration::from_millis(20);

impl Speakers {
    /// Nobody was heard yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A packet of somebody's microphone came with this level in -dBov, 0 (loudest) to 127 (silent), and the encoder's
    /// opinion on whether it is a voice. To be called for each packet in order, not for muted ones. Returns whether this
    /// one made them a speaker: then [`Self::score`] has changed.
    pub fn on_level(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        level_dbov: u8,
        voice: bool,
    ) -> bool {
        let loudness = f32::from(127 - level_dbov.min(127));
        let key = *self.voice_by_participant.entry(participant).or_insert_with(|| {
            let key = self.voices.insert(Voice::new(now, participant, loudness));
            self.order.push(key);
            self.ranked.push(participant);
            key
        });
        let began = self.voices.get_mut(key).is_some_and(|v| v.on_level(now, loudness, voice));
        if began {
            self.rank(now);
        }
        began
    }

    /// A participant left or muted the microphone.
    pub fn remove(&mut self, participant: ParticipantId) {
        if let Some(key) = self.voice_by_participant.remove(&participant) {
            self.voices.remove(key);
            self.order.retain(|&k| k != key);
            self.ranked.retain(|&p| p != participant);
        }
    }

    /// The speakers, the loudest first, when that has changed and it is time to tell.
    pub fn poll(&mut self, now: Instant) -> Option<&[Speaker]> {
        self.rank_if_due(now);
        if self.told_at.is_some_and(|at| now < at + TELL_INTERVAL) {
            return None;
        }
        self.list(now);
        let listed = &self.listed[..self.listed.len().min(MAX_TOLD)];
        if !worth_telling(&self.told, listed) {
            return None;
        }
        self.told_at = Some(now);
        self.told.clear();
        self.told.extend_from_slice(listed);
        Some(&self.told)
    }

    /// When [`Self::poll`] may have something to tell without a further packet; `None` while nobody speaks.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.told_at.filter(|_| !self.told.is_empty()).map(|at| {
            let changes = self.told.iter().filter_map(|s| self.voice(s.participant)?.last_active).min();
            changes.map_or(at, |active| active + RELEASE).max(at + TELL_INTERVAL)
        })
    }

    /// Whether somebody speaks at the moment.
    pub fn is_speaking(&self, now: Instant, participant: ParticipantId) -> bool {
        self.voice(participant).is_some_and(|v| v.speaks(now))
    }

    /// The place in [`Self::ranked`] as a number, as of the last [`Self::poll`] or ranking: higher is a stronger claim
    /// to an audio slot, 0 is nobody who has spoken yet.
    pub fn score(&self, participant: ParticipantId) -> u32 {
        self.voice(participant).map_or(0, |v| v.score)
    }

    /// All who have been heard, the strongest claim to an audio slot first.
    pub fn ranked(&mut self, now: Instant) -> &[ParticipantId] {
        self.rank_if_due(now);
        &self.ranked
    }

    fn voice(&self, participant: ParticipantId) -> Option<&Voice> {
        self.voices.get(*self.voice_by_participant.get(&participant)?)
    }

    fn rank_if_due(&mut self, now: Instant) {
        if self.ranked_at.is_none_or(|at| now >= at + RANK_INTERVAL) {
            self.rank(now);
        }
    }

    /// Inserts each into those before it: nearly nothing to do, for the order is nearly right already.
    fn rank(&mut self, now: Instant) {
        for unsorted in 1..self.order.len() {
            for at in (1..=unsorted).rev() {
                let (Some(before), Some(after)) =
                    (self.voices.get(self.order[at - 1]), self.voices.get(self.order[at]))
                else {
                    break;
                };
                if !after.outranks(before, now) {
                    break;
                }
                self.order.swap(at - 1, at);
            }
        }
        self.ranked.clear();
        for (place, &key) in self.order.iter().enumerate() {
            if let Some(voice) = self.voices.get_mut(key) {
                let spoke = voice.claim(now) != Claim::Silent;
                voice.score = if spoke { (self.order.len() - place) as u32 } else { 0 };
                self.ranked.push(voice.participant);
            }
        }
        self.ranked_at = Some(now);
    }

    /// Renews the list of those who speak, in an order that seldom changes.
    fn list(&mut self, now: Instant) {
        let Self { voices, voice_by_participant, listed, .. } = self;
        let voice = |p: ParticipantId| voices.get(*voice_by_participant.get(&p)?);
        listed.retain(|s| voice(s.participant).is_some_and(|v| v.speaks(now)));
        let kept = listed.len();
        for (_, voice) in voices.iter().filter(|(_, v)| v.speaks(now)) {
            if !listed[..kept].iter().any(|s| s.participant == voice.participant) {
                listed.push(Speaker { participant: voice.participant, level: 0 });
            }
        }
        let smoothed = |s: &Speaker| voice(s.participant).map_or(0.0, |v| v.smoothed);
        if self.reordered_at.is_none_or(|at| now >= at + DWELL) {
            for unsorted in 1..listed.len() {
                for at in (1..=unsorted).rev() {
                    if smoothed(&listed[at]) < smoothed(&listed[at - 1]) + PRECEDENCE {
                        break;
                    }
                    listed.swap(at - 1, at);
                    self.reordered_at = Some(now);
                }
            }
        }
        for speaker in listed {
            speaker.level = voice(speaker.participant).map_or(0, |v| v.smoothed as u8);
        }
    }
}

/// Whether people would see the difference between two lists.
fn worth_telling(told: &[Speaker], listed: &[Speaker]) -> bool {
    told.len() != listed.len()
        || told.iter().zip(listed).any(|(old, new)| {
            old.participant != new.participant || old.level.abs_diff(new.level) >= TOLD_STEP
        })
}

/// One microphone.
#[derive(Debug)]
struct Voice {
    participant: ParticipantId,
    /// The background in dB above -127 dBov: falls at once, rises slowly.
    floor: f32,
    /// The loudness while active, in the same unit, over about a second.
    smoothed: f32,
    heard: Instant,
    /// The active packets in a row and when they began.
    run: u32,
    run_began: Instant,
    last_active: Option<Instant>,
    /// See [`Speakers::score`].
    score: u32,
    /// When the last time of speaking began; it lasts while activity is not older than the release.
    speaking_since: Option<Instant>,
}

/// Somebody speaks after so many active packets in a row, or two that are this far apart ...
const ATTACK_PACKETS: u32 = 3;
const ATTACK: Duration = Duration::from_millis(35);

/// ... until there was no active one for this long.
const RELEASE: Duration = Duration::from_millis(800);

/// The least loudness of speech: -60 dBov if the encoder hears a voice, -50 dBov if not.
const LEAST_VOICE: f32 = 67.0;
const LEAST_SOUND: f32 = 77.0;

/// Speech must stand out of the background by this, and less once it is speech.
const MARGIN: f32 = 12.0;
const SPEAKING_MARGIN: f32 = 6.0;

/// No background is louder than -45 dBov: what stands out of that can be speech however long it lasts.
const MAX_FLOOR: f32 = 82.0;

/// The background rises by this, in dB a second.
const FLOOR_RISE: f32 = 2.0;

/// The first packet can be speech already: the background is not taken from it if it is above -65 dBov.
const MAX_FIRST_FLOOR: f32 = 62.0;

/// The time constant of the smoothed loudness, in seconds.
const SMOOTHING: f32 = 1.0;

/// A pause in the packets is a silence that is not sent, and tells as much as so many seconds.
const MAX_STEP: f32 = 0.2;

/// What a voice can claim, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// Has not spoken.
    Silent,
    /// Has spoken.
    Spoke,
    /// Speaks for longer than the hold.
    Speaks,
    /// Began to speak within the hold; kept even if it was but a word.
    Began,
}

impl Voice {
    fn new(now: Instant, participant: ParticipantId, loudness: f32) -> Self {
        Self {
            participant,
            floor: loudness.min(MAX_FIRST_FLOOR),
            smoothed: 0.0,
            heard: now,
            run: 0,
            run_began: now,
            last_active: None,
            score: 0,
            speaking_since: None,
        }
    }

    /// Whether this packet made it a speaker.
    fn on_level(&mut self, now: Instant, loudness: f32, voice: bool) -> bool {
        let elapsed = now.saturating_duration_since(self.heard).as_secs_f32().min(MAX_STEP);
        self.heard = now;
        let spoke = self.speaks(now);
        let margin = if spoke { SPEAKING_MARGIN } else { MARGIN };
        let least = if voice { LEAST_VOICE } else { LEAST_SOUND };
        let active = loudness >= least && loudness >= self.floor + margin;
        self.floor = loudness.min(self.floor + FLOOR_RISE * elapsed).min(MAX_FLOOR);
        if !active {
            self.run = 0;
            return false;
        }
        if self.run == 0 {
            self.run_began = now;
        }
        self.run += 1;
        let lasted = now.saturating_duration_since(self.run_began) >= ATTACK;
        if !spoke && self.run < ATTACK_PACKETS && (self.run < 2 || !lasted) {
            return false;
        }
        self.last_active = Some(now);
        if !spoke {
            self.speaking_since = Some(now);
            self.smoothed = loudness;
        }
        self.smoothed += (loudness - self.smoothed) * (elapsed / SMOOTHING);
        !spoke
    }

    fn speaks(&self, now: Instant) -> bool {
        self.last_active.is_some_and(|at| now.saturating_duration_since(at) < RELEASE)
    }

    fn claim(&self, now: Instant) -> Claim {
        match self.speaking_since {
            None => Claim::Silent,
            Some(at) if now.saturating_duration_since(at) < HOLD => Claim::Began,
            Some(_) if self.speaks(now) => Claim::Speaks,
            Some(_) => Claim::Spoke,
        }
    }

    /// Whether this claim is clearly stronger than one that stands before it.
    fn outranks(&self, before: &Voice, now: Instant) -> bool {
        let (mine, theirs) = (self.claim(now), before.claim(now));
        if mine != theirs {
            return mine > theirs;
        }
        match mine {
            Claim::Silent => false,
            Claim::Spoke => self.last_active > before.last_active,
            Claim::Speaks => self.smoothed >= before.smoothed + PRECEDENCE,
            // Who came first has the slot and keeps it for the hold.
            Claim::Began => self.speaking_since < before.speaking_since,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const A: ParticipantId = ParticipantId(1);
    const B: ParticipantId = ParticipantId(2);
    const C: ParticipantId = ParticipantId(3);
    const D: ParticipantId = ParticipantId(4);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A room in steps of 20 ms in which each participant has a loudness.
    struct Room {
        now: Instant,
        rng: StdRng,
        speakers: Speakers,
        lists: Vec<(Duration, Vec<ParticipantId>)>,
        start: Instant,
    }

    impl Room {
        fn new(seed: u64) -> Self {
            let start = Instant::now();
            let rng = StdRng::seed_from_u64(seed);
            Self { now: start, rng, speakers: Speakers::new(), lists: Vec::new(), start }
        }

        /// For each participant the level in dBov (negative); speech varies by 8 dB and pauses between words.
        fn pass(&mut self, steps: u64, levels: &[(ParticipantId, i32)]) {
            for _ in 0..steps {
                let word = (self.now - self.start).as_millis() % 700 < 560;
                for &(participant, level) in levels {
                    let speech = level > -55;
                    let level = match (speech, word) {
                        (true, false) => -70 + self.rng.random_range(-3..=3),
                        (true, true) => level + self.rng.random_range(-8..=8),
                        (false, _) => level + self.rng.random_range(-3..=3),
                    };
                    self.speakers.on_level(self.now, participant, -level.min(0) as u8, speech && word);
                }
                if let Some(list) = self.speakers.poll(self.now) {
                    self.lists.push((self.now - self.start, list.iter().map(|s| s.participant).collect()));
                }
                self.now += ms(20);
            }
        }

        fn best(&mut self, slots: usize) -> Vec<ParticipantId> {
            self.speakers.ranked(self.now).iter().take(slots).copied().collect()
        }
    }

    #[test]
    fn speaking_begins_within_60_ms_and_ends_within_a_second() {
        let mut room = Room::new(1);
        room.pass(35 * 10, &[(A, -75), (B, -70)]);
        assert!(room.lists.is_empty(), "{:?}", room.lists);
        room.pass(3, &[(A, -30), (B, -70)]);
        assert!(room.speakers.is_speaking(room.now, A));
        room.pass(67, &[(A, -30), (B, -70)]);
        assert_eq!(room.lists.len(), 1, "{:?}", room.lists);
        assert_eq!(room.lists[0].1, [A]);
        let end = room.now - room.start;
        room.pass(100, &[(A, -75), (B, -70)]);
        let (at, list) = room.lists.last().expect("the end is told");
        assert!(list.is_empty());
        let after = at.saturating_sub(end);
        assert!((ms(500)..ms(1100)).contains(&after), "{after:?}");
    }

    #[test]
    fn clicks_and_a_steady_noise_are_not_speech() {
        let mut room = Room::new(2);
        for _ in 0..50 {
            room.pass(15, &[(A, -80), (B, -58)]);
            room.speakers.on_level(room.now, A, 10, true);
            room.now += ms(20);
        }
        assert!(room.lists.is_empty(), "{:?}", room.lists);
        // A fan at -45 dBov, which the encoder does not take for a voice.
        for _ in 0..50 * 60 {
            let level = 45 + room.rng.random_range(0..4);
            room.speakers.on_level(room.now, B, level, false);
            room.now += ms(20);
        }
        assert!(!room.speakers.is_speaking(room.now, B));
        for _ in 0..3 {
            room.speakers.on_level(room.now, B, 20, true);
            room.now += ms(20);
        }
        assert!(room.speakers.is_speaking(room.now, B), "speech stands out of it");
    }

    #[test]
    fn silence_that_is_not_sent_ends_speaking() {
        let mut room = Room::new(3);
        room.pass(2, &[(A, -75)]);
        room.pass(25, &[(A, -30)]);
        let due = room.speakers.poll_timeout().expect("somebody speaks");
        assert!(due < room.now + ms(850));
        assert!(room.speakers.poll(due).is_some_and(<[_]>::is_empty));
        assert_eq!(room.speakers.poll_timeout(), None);
    }

    #[test]
    fn equal_speakers_do_not_flap_and_a_louder_one_comes_first() {
        for seed in 10..16 {
            let mut room = Room::new(seed);
            room.pass(10, &[(A, -75), (B, -75)]);
            room.pass(35 * 60, &[(A, -30), (B, -30)]);
            assert!(room.lists.len() <= 4, "seed {seed}: {:?}", room.lists);
            room.lists.clear();
            room.pass(35 * 5, &[(A, -38), (B, -22)]);
            assert_eq!(room.speakers.told[0].participant, B);
            room.pass(35 * 5, &[(A, -22), (B, -38)]);
            assert_eq!(room.speakers.told[0].participant, A);
            assert!(room.lists.len() < 10, "{:?}", room.lists);
            assert!(room.lists.windows(2).all(|l| l[1].0 >= l[0].0 + ms(250)));
        }
    }

    #[test]
    fn a_new_speaker_wins_a_slot_within_60_ms_and_holds_it_for_two_seconds() {
        let mut room = Room::new(20);
        room.pass(10, &[(A, -75), (B, -75), (C, -75), (D, -75)]);
        room.pass(35 * 4, &[(A, -20), (B, -25), (C, -75), (D, -75)]);
        assert_eq!(room.best(2).len(), 2);
        assert!(!room.best(2).contains(&C));
        // C says one word, less loudly than the two who speak on.
        room.pass(3, &[(A, -20), (B, -25), (C, -40), (D, -75)]);
        assert_eq!(room.best(1), [C], "at {:?}", room.now - room.start);
        let began = room.now;
        room.pass(10, &[(A, -20), (B, -25), (C, -40), (D, -75)]);
        while room.now < began + ms(1_900) {
            room.pass(1, &[(A, -20), (B, -25), (C, -75), (D, -75)]);
            assert!(room.best(2).contains(&C), "{:?} after it began", room.now - began);
        }
        room.pass(35, &[(A, -20), (B, -25), (C, -75), (D, -75)]);
        assert_eq!(room.best(2), [A, B], "and then it is the turn of those who speak");
        assert!(room.speakers.score(C) > room.speakers.score(D));
        assert!(room.speakers.score(B) > room.speakers.score(C));
    }

    #[test]
    fn those_who_left_are_forgotten_and_hundreds_are_ranked() {
        let mut room = Room::new(30);
        let silent: Vec<_> = (100..600).map(|n| (ParticipantId(n), -75)).collect();
        room.pass(5, &silent);
        let mut levels = silent.clone();
        levels[321].1 = -30;
        room.pass(4, &levels);
        let loud = levels[321].0;
        assert_eq!(room.best(1), [loud]);
        assert_eq!(room.speakers.ranked(room.now).len(), 500);
        room.speakers.remove(loud);
        assert_ne!(room.best(1), [loud]);
        assert_eq!(room.speakers.score(loud), 0);
        for (participant, _) in silent {
            room.speakers.remove(participant);
        }
        assert!(room.best(1).is_empty() && room.speakers.voices.is_empty());
    }
}
