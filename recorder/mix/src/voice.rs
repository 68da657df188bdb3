//! One voice on the mix's line of time: decoded, where its times say, and in one piece although clocks differ.

use std::collections::VecDeque;

use opus::{Channels, Decoder};
use veche_recorder_core::opus::{LONGEST, duration};

use crate::{FRAME, RATE, Refused, Sample};

/// Somebody who is in the mix.
#[derive(Debug)]
pub(crate) struct Voice {
    /// How loud they are.
    pub level: f32,
    /// Once nothing of theirs waits any more, they are gone.
    pub leaves: bool,
    decoder: Decoder,
    /// What is to be mixed, from the mix's position on.
    waiting: VecDeque<Sample>,
    /// The sample behind the last of the last packet.
    end: Option<i64>,
    decoded: Vec<Sample>,
}

/// A packet that differs from its place by no more follows the one before: 10 ms.
const NEAR: i64 = RATE as i64 / 100;

/// From here on one sample more or less in each packet brings it nearer: 1 ms.
const OFF: i64 = RATE as i64 / 1_000;

/// So much that is missing is guessed: 60 ms. More is silence.
const GUESSED: i64 = RATE as i64 * 60 / 1_000;

/// What is guessed has a length of so many samples, or a multiple.
const GUESS: i64 = RATE as i64 / 400;

/// So much waits at most: 5 s.
const MOST: i64 = RATE as i64 * 5;

impl Voice {
    pub fn new() -> Result<Self, opus::Error> {
        Ok(Self {
            level: 1.0,
            leaves: false,
            decoder: Decoder::new(RATE, Channels::Stereo)?,
            waiting: VecDeque::new(),
            end: None,
            decoded: vec![[0.0; 2]; LONGEST as usize],
        })
    }

    /// Takes the packet whose first sample is `at`, while the mix is at `position`.
    pub fn push(&mut self, at: i64, position: u64, packet: &[u8]) -> Result<(), Refused> {
        let position = position as i64;
        let samples = i64::from(duration(packet).ok_or(Refused::Broken)?);
        if at + samples <= position {
            return Err(Refused::Late);
        }
        if at + samples > position + MOST {
            return Err(Refused::TooFar);
        }
        let off = self.end.map_or(0, |end| at - end);
        let mut from = if off.abs() <= NEAR { self.end.unwrap_or(at) } else { at };
        if off > NEAR && off <= GUESSED {
            let guessed = off / GUESS * GUESS;
            let count = self.decode(&[], guessed as usize)?;
            self.put(at - off, position, count);
            from = at - off % GUESS;
        }
        let mut count = self.decode(packet, LONGEST as usize)?;
        if off.abs() <= NEAR && off > OFF && count < self.decoded.len() {
            self.decoded[count] = self.decoded[count - 1];
            count += 1;
        } else if off.abs() <= NEAR && off < -OFF {
            count -= 1;
        }
        self.put(from, position, count);
        self.end = Some(from + count as i64);
        Ok(())
    }

    /// Adds the next frame to the mix and forgets it; whether there was any of it.
    pub fn add_to(&mut self, mixed: &mut [Sample]) -> bool {
        let count = self.waiting.len().min(FRAME);
        for (sum, sample) in mixed.iter_mut().zip(self.waiting.drain(..count)) {
            sum[0] += sample[0] * self.level;
            sum[1] += sample[1] * self.level;
        }
        count > 0
    }

    /// How much of theirs is still to be mixed.
    pub fn waits(&self) -> usize {
        self.waiting.len()
    }

    /// Decodes a packet, or guesses so many samples when it is empty. How many there are now.
    fn decode(&mut self, packet: &[u8], most: usize) -> Result<usize, Refused> {
        let room = self.decoded[..most].as_flattened_mut();
        let count = self.decoder.decode_float(packet, room, false).map_err(|_| Refused::Broken)?;
        if count == 0 { Err(Refused::Broken) } else { Ok(count) }
    }

    /// Puts what was decoded at its place. What is there already stays, what is before the mix's position is left out, and a hole
    /// is silent.
    fn put(&mut self, from: i64, position: i64, count: usize) {
        let end = position + self.waiting.len() as i64;
        if from > end {
            self.waiting.resize((from - position) as usize, [0.0; 2]);
        }
        let known = (end - from).clamp(0, count as i64) as usize;
        self.waiting.extend(&self.decoded[known..count]);
    }
}
