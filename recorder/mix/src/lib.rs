//! A room's sound as one stream of Opus, while it runs: what everybody sends is decoded, put on one line of time, mixed and
//! encoded. Like the rest of the recorder it reads no clock: packets come with their times, and frames of 20 ms go out, without
//! a hole from the beginning to the end.

#![forbid(unsafe_code)]

mod limiter;
#[cfg(test)]
mod tests;
mod voice;

use std::collections::BTreeMap;

use opus::{Application, Bitrate, Channels, Encoder};
use veche_recorder_core::frames::Frame;
use veche_recorder_core::opus::SILENCE;
use veche_recorder_core::stream::TimedFrame;

use limiter::Limiter;
use voice::Voice;

/// Samples of each channel in a second.
const RATE: u32 = 48_000;

/// And in a frame that goes out: 20 ms.
const FRAME: usize = 960;

/// Two channels.
type Sample = [f32; 2];

/// What the mix has of a second, in bits.
const BIT_RATE: i32 = 64_000;

/// Whoever comes after so many voices is not mixed.
const MOST_VOICES: usize = 1_000;

/// So many frames of silence are encoded, that what was before fades; then each is the same.
const FADING: u32 = 5;

/// The longest packet of Opus in bytes (RFC 6716 section 3.4).
const LONGEST_PACKET: usize = 1_275;

/// Mixes voices, as long as somebody feeds it.
#[derive(Debug)]
pub struct Mixer {
    /// The server time of sample 0.
    began: i64,
    /// The sample that comes next into the encoder.
    position: u64,
    /// How much later than it came in a sample comes out of an encoder and a decoder.
    delay: u64,
    voices: BTreeMap<u64, Voice>,
    limiter: Limiter,
    encoder: Encoder,
    /// How many frames were silent up to now.
    silent: u32,
    mixed: Vec<Sample>,
}

/// Why a packet is not in the mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its time was mixed already.
    #[error("it came too late")]
    Late,
    /// Its time is too far ahead: nobody takes frames.
    #[error("it is too far ahead")]
    TooFar,
    /// It is no packet of Opus.
    #[error("it is no packet of Opus")]
    Broken,
    /// There are too many voices.
    #[error("there are too many voices")]
    TooMany,
}

impl Mixer {
    /// A mix that begins at this server time. Fails only when there is no memory for an encoder.
    pub fn new(began: i64) -> Result<Self, opus::Error> {
        let mut encoder = Encoder::new(RATE, Channels::Stereo, Application::Audio)?;
        encoder.set_bitrate(Bitrate::Bits(BIT_RATE))?;
        let delay = u64::try_from(encoder.get_lookahead()?).unwrap_or_default();
        Ok(Self {
            began,
            position: delay,
            delay,
            voices: BTreeMap::new(),
            limiter: Limiter::new(),
            encoder,
            silent: FADING,
            mixed: vec![[0.0; 2]; FRAME],
        })
    }

    /// Takes a packet of a voice; whoever speaks for the first time joins the mix with it.
    pub fn push(&mut self, voice: u64, timed: &TimedFrame) -> Result<(), Refused> {
        if !self.voices.contains_key(&voice) {
            if self.voices.len() >= MOST_VOICES {
                return Err(Refused::TooMany);
            }
            self.voices.insert(voice, Voice::new().map_err(|_| Refused::TooMany)?);
        }
        let since = i128::from(timed.time - self.began) * i128::from(RATE) / 1_000_000_000;
        let at = i64::try_from(since).map_err(|_| Refused::TooFar)?;
        let voice = self.voices.get_mut(&voice).ok_or(Refused::TooMany)?;
        voice.push(at, self.position, &timed.frame.data)
    }

    /// How loud a voice is in the mix: 1 is as it came, 0 is not at all.
    pub fn set_level(&mut self, voice: u64, level: f32) {
        if let Some(voice) = self.voices.get_mut(&voice) {
            voice.level = level.clamp(0.0, 4.0);
        }
    }

    /// A voice has left. What it said before is mixed still.
    pub fn remove(&mut self, voice: u64) {
        if let Some(voice) = self.voices.get_mut(&voice) {
            voice.leaves = true;
        }
    }

    /// Puts the frames behind those in `out` for which everything has come: no voice has anything before `complete` any more.
    pub fn take(&mut self, complete: i64, out: &mut Vec<TimedFrame>) -> Result<(), opus::Error> {
        while self.time(self.position + FRAME as u64) <= complete {
            let data = self.mix()?;
            let time = self.time(self.position - self.delay);
            self.position += FRAME as u64;
            let timestamp = (self.position - self.delay) as u32;
            out.push(TimedFrame { time, frame: Frame { timestamp, key: true, size: None, data } });
        }
        Ok(())
    }

    fn time(&self, sample: u64) -> i64 {
        self.began + (i128::from(sample) * 1_000_000_000 / i128::from(RATE)) as i64
    }

    /// The next frame.
    fn mix(&mut self) -> Result<Vec<u8>, opus::Error> {
        self.mixed.fill([0.0; 2]);
        let mut sounds = false;
        for voice in self.voices.values_mut() {
            sounds |= voice.add_to(&mut self.mixed);
        }
        self.voices.retain(|_, voice| !voice.leaves || voice.waits() > 0);
        self.silent = if sounds { 0 } else { self.silent.saturating_add(1) };
        if self.silent > FADING {
            return Ok(SILENCE.to_vec());
        }
        self.limiter.apply(&mut self.mixed);
        let mut packet = vec![0; LONGEST_PACKET];
        let len = self.encoder.encode_float(self.mixed.as_flattened(), &mut packet)?;
        packet.truncate(len);
        Ok(packet)
    }
}
