use std::f32::consts::TAU;

use opus::Decoder;
use veche_recorder_core::opus::duration;

use super::*;

const MS: i64 = 1_000_000;

/// Somebody who hums: a tone of so many hertz, in packets of 20 ms.
struct Hum {
    encoder: Encoder,
    hertz: f32,
    loud: f32,
    sample: usize,
}

impl Hum {
    fn new(hertz: f32, loud: f32) -> Self {
        Self {
            encoder: Encoder::new(RATE, Channels::Mono, Application::Audio).unwrap(),
            hertz,
            loud,
            sample: 0,
        }
    }

    fn packet(&mut self) -> Vec<u8> {
        let wave = |index: usize| (index as f32 * self.hertz * TAU / RATE as f32).sin() * self.loud;
        let pcm: Vec<f32> = (self.sample..self.sample + FRAME).map(wave).collect();
        self.sample += FRAME;
        self.encoder.encode_vec_float(&pcm, LONGEST_PACKET).unwrap()
    }

    /// Hums from one time to another, in milliseconds; each packet comes `skew` parts in a million later than it should.
    fn hum(&mut self, mixer: &mut Mixer, voice: u64, times: std::ops::Range<i64>, skew: i64) {
        let from = times.start;
        for ms in times.step_by(20) {
            let time = ms * MS + (ms - from) * skew;
            let frame = Frame { key: true, data: self.packet(), ..Frame::default() };
            mixer.push(voice, &TimedFrame { time, frame }).unwrap();
        }
    }
}

/// Takes the mix through so many milliseconds and decodes it.
fn heard(mixer: &mut Mixer, ms: i64) -> Vec<f32> {
    let mut frames = Vec::new();
    mixer.take(ms * MS, &mut frames).unwrap();
    let mut decoder = Decoder::new(RATE, Channels::Mono).unwrap();
    let mut heard = Vec::new();
    for (number, timed) in (0..).zip(&frames) {
        assert_eq!(timed.time, number * 20 * MS, "no hole, from the beginning on");
        assert_eq!(duration(&timed.frame.data), Some(FRAME as u32));
        let mut pcm = vec![0.0; FRAME];
        assert_eq!(decoder.decode_float(&timed.frame.data, &mut pcm, false).unwrap(), FRAME);
        heard.extend(pcm);
    }
    heard
}

/// How loud a tone is in a stretch of sound (Goertzel's algorithm): the height of its wave.
fn level(heard: &[f32], ms: std::ops::Range<usize>, hertz: f32) -> f32 {
    let stretch = &heard[ms.start * 48..ms.end * 48];
    let turn = 2.0 * (hertz * TAU / RATE as f32).cos();
    let (last, before) =
        stretch.iter().fold((0.0, 0.0), |(last, before), sample| (sample + turn * last - before, last));
    let power: f32 = last * last + before * before - turn * last * before;
    power.max(0.0).sqrt() * 2.0 / stretch.len() as f32
}

/// The first millisecond from which on a tone is there.
fn begins(heard: &[f32], hertz: f32, loud: f32) -> usize {
    (0..heard.len() / 48 - 10).find(|ms| level(heard, *ms..*ms + 10, hertz) > loud / 2.0).unwrap()
}

#[test]
fn three_people_are_heard_when_they_speak_and_as_loud_as_they_are() {
    let mut mixer = Mixer::new(0).unwrap();
    let people = [(400.0, 0.3, 0..1_000), (1_000.0, 0.2, 500..2_000), (2_400.0, 0.1, 2_300..3_000)];
    for (voice, (hertz, loud, times)) in (0..).zip(people.clone()) {
        Hum::new(hertz, loud).hum(&mut mixer, voice, times, 0);
    }
    let heard = heard(&mut mixer, 4_000);
    for (hertz, loud, times) in people {
        let (from, to) = (times.start as usize, times.end as usize);
        let level = |ms| level(&heard, ms, hertz);
        assert!(
            (level(from + 100..to - 100) / loud - 1.0).abs() < 0.1,
            "{hertz}: {}",
            level(from + 100..to - 100)
        );
        assert!(
            from.abs_diff(begins(&heard, hertz, loud)) <= 15,
            "{hertz} begins at {}",
            begins(&heard, hertz, loud)
        );
        if from > 100 {
            assert!(level(from - 100..from - 20) < loud / 50.0, "{hertz} is not there before");
        }
        assert!(level(to + 60..to + 300) < loud / 50.0, "{hertz} is not there after");
    }
}

#[test]
fn levels_and_a_crowd_that_shouts() {
    let mut mixer = Mixer::new(0).unwrap();
    let mut hums: Vec<Hum> = [300.0, 500.0, 700.0, 900.0].map(|hertz| Hum::new(hertz, 0.8)).into();
    for (voice, hum) in (0..).zip(&mut hums) {
        hum.hum(&mut mixer, voice, 0..20, 0);
        mixer.set_level(voice, if voice == 0 { 0.5 } else { 1.0 });
        hum.hum(&mut mixer, voice, 20..2_000, 0);
    }
    let heard = heard(&mut mixer, 2_000);
    // An encoder adds a little to what it is given.
    let loudest = heard.iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()));
    assert!(loudest < 1.1, "{loudest}");
    let levels = [300.0, 500.0, 700.0, 900.0].map(|hertz| level(&heard, 1_000..1_900, hertz));
    assert!((levels[0] / levels[1] - 0.5).abs() < 0.05, "{levels:?}");
    assert!(
        levels[1] > 0.15 && (levels[2] / levels[3] - 1.0).abs() < 0.1,
        "all are softer alike: {levels:?}"
    );
}

#[test]
fn clocks_that_differ_stay_together() {
    let mut mixer = Mixer::new(0).unwrap();
    let (mut slow, mut fast, mut frames) = (Hum::new(400.0, 0.3), Hum::new(900.0, 0.3), Vec::new());
    // Two minutes at 200 parts in a million: 24 ms.
    for second in 0..120_i64 {
        for ms in (second * 1_000..(second + 1) * 1_000).step_by(20) {
            for (voice, hum, skew) in [(0, &mut slow, 200), (1, &mut fast, -200)] {
                let frame = Frame { key: true, data: hum.packet(), ..Frame::default() };
                mixer.push(voice, &TimedFrame { time: ms * MS + ms * skew, frame }).unwrap();
            }
        }
        mixer.take((second * 1_000 + 500) * MS, &mut frames).unwrap();
        let off = |voice: u64, skew: i64| {
            let end = mixer.voices[&voice].waits() as i64 + mixer.position as i64;
            let ms = (second + 1) * 1_000;
            (end * 1_000 / 48 - (ms * 1_000 + ms * skew / 1_000)).abs()
        };
        assert!(off(0, 200) < 3_000 && off(1, -200) < 3_000, "within 3 ms: {} {}", off(0, 200), off(1, -200));
    }
}

#[test]
fn a_lost_packet_is_guessed_and_a_pause_is_silent() {
    let mut mixer = Mixer::new(0).unwrap();
    let mut hum = Hum::new(440.0, 0.5);
    for ms in (0..1_000).step_by(20).chain((2_000..3_000).step_by(20)) {
        let frame = Frame { key: true, data: hum.packet(), ..Frame::default() };
        if ms != 500 {
            mixer.push(7, &TimedFrame { time: ms * MS, frame }).unwrap();
        }
    }
    let heard = heard(&mut mixer, 3_500);
    assert!(level(&heard, 500..520, 440.0) > 0.2, "{}", level(&heard, 500..520, 440.0));
    assert!(level(&heard, 1_060..1_990, 440.0) < 0.01);
    assert!(begins(&heard[48 * 1_500..], 440.0, 0.5).abs_diff(500) <= 15);
}

#[test]
fn what_cannot_be_mixed_is_refused_with_a_reason() {
    let mut mixer = Mixer::new(1_000 * MS).unwrap();
    let packet = Hum::new(400.0, 0.3).packet();
    let mut push = |voice, ms: i64, data: &[u8]| {
        let frame = Frame { key: true, data: data.to_vec(), ..Frame::default() };
        mixer.push(voice, &TimedFrame { time: ms * MS, frame })
    };
    assert_eq!(push(0, 900, &packet), Err(Refused::Late));
    assert_eq!(push(0, 7_000, &packet), Err(Refused::TooFar));
    assert_eq!(push(0, i64::MAX / MS, &packet), Err(Refused::TooFar));
    assert_eq!(push(0, 1_000, &[]), Err(Refused::Broken));
    assert_eq!(push(0, 1_000, &[0xff; 2]), Err(Refused::Broken));
    assert_eq!(push(0, 1_000, &packet), Ok(()));
    for voice in 1..MOST_VOICES as u64 {
        assert_eq!(push(voice, 1_000, &SILENCE), Ok(()));
    }
    assert_eq!(push(5_000, 1_000, &packet), Err(Refused::TooMany));
    for voice in 0..MOST_VOICES as u64 {
        mixer.remove(voice);
    }
    mixer.take(1_100 * MS, &mut Vec::new()).unwrap();
    assert!(mixer.voices.is_empty(), "who left makes room");
}

#[test]
fn silence_costs_nothing_to_speak_of() {
    let mut mixer = Mixer::new(0).unwrap();
    Hum::new(400.0, 0.3).hum(&mut mixer, 0, 0..1_000, 0);
    let mut frames = Vec::new();
    mixer.take(600_000 * MS, &mut frames).unwrap();
    assert_eq!(frames.len(), 29_999);
    assert!(frames[100..].iter().all(|timed| timed.frame.data == SILENCE));
}
