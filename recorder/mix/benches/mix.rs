//! What a mix costs: processor time for each second of a room, with so many who speak at once.

use std::time::Instant;

use opus::{Application, Channels, Encoder};
use veche_recorder_core::frames::Frame;
use veche_recorder_core::stream::TimedFrame;
use veche_recorder_mix::Mixer;

const MS: i64 = 1_000_000;
const SECONDS: i64 = 60;

fn main() {
    println!("voices   ms of one core for each second   of it");
    for voices in [1, 3, 10, 30] {
        let packets = voice();
        let mut mixer = Mixer::new(0).expect("an encoder");
        let mut frames = Vec::new();
        let started = Instant::now();
        for (number, data) in (0..).zip(&packets) {
            let time = number * 20 * MS;
            for voice in 0..voices {
                let frame = Frame { key: true, data: data.clone(), ..Frame::default() };
                mixer.push(voice, &TimedFrame { time, frame }).expect("in time");
            }
            mixer.take(time, &mut frames).expect("encoded");
        }
        let per_second = started.elapsed().as_secs_f64() * 1_000.0 / SECONDS as f64;
        println!("{voices:6}   {per_second:31.2}   {:4.2} %", per_second / 10.0);
    }
}

/// A minute of something like speech: noise that swells and fades, as a browser encodes a microphone.
fn voice() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(48_000, Channels::Mono, Application::Voip).expect("an encoder");
    encoder.set_bitrate(opus::Bitrate::Bits(32_000)).expect("a bit rate");
    let mut seed = 1_u32;
    let mut noise = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / f32::from(u16::MAX) / 128.0 - 1.0
    };
    let mut smooth = 0.0_f32;
    (0..SECONDS * 50)
        .map(|frame| {
            let swell = (frame as f32 / 12.0).sin().abs() * 0.3;
            let pcm: Vec<f32> = (0..960)
                .map(|_| {
                    smooth += (noise() - smooth) * 0.1;
                    smooth * swell
                })
                .collect();
            encoder.encode_vec_float(&pcm, 1_275).expect("encoded")
        })
        .collect()
}
