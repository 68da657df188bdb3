use bytes::Bytes;
use rtc_rtp::codec::av1::Av1Payloader;
use rtc_rtp::codec::h264::H264Payloader;
use rtc_rtp::codec::h265::HevcPayloader;
use rtc_rtp::codec::vp8::Vp8Payloader;
use rtc_rtp::codec::vp9::Vp9Payloader;
use rtc_rtp::packetizer::Payloader;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const SPS: &str = "6764000bacb60a8cf1136022000003000200000300291e2855c0";
const PPS: &str = "68eac04d2c8b";
const IDR: &str = "65888404affeb5df32c544f1fb75e280";
const VP8_KEY: &str = "3059009d012a4201b60000070885";
const VP8_DELTA: &str = "310900071074001bb8d3867c5623bff47ff07e85";

/// Sends what a payloader of another implementation makes of a frame.
struct Sender {
    builder: FrameBuilder,
    payloader: Box<dyn Payloader>,
    timestamp: u32,
}

impl Sender {
    fn new(codec: Codec, payloader: impl Payloader + 'static) -> Self {
        Self { builder: FrameBuilder::new(codec), payloader: Box::new(payloader), timestamp: 0 }
    }

    /// Sends a frame but for the packets that are lost, and says what came of it.
    fn send(&mut self, frame: &[u8], lost: &[usize]) -> Vec<Frame> {
        self.timestamp += 3_000;
        let payloads = self.payloader.payload(1_000, &Bytes::copy_from_slice(frame)).unwrap();
        let mut whole = Vec::new();
        for (index, payload) in payloads.iter().enumerate() {
            if lost.contains(&index) {
                self.builder.gap();
                continue;
            }
            let marker = if index + 1 == payloads.len() { 0xe0 } else { 0x60 };
            let mut bytes = vec![0x80, marker, 0, 1];
            bytes.extend(self.timestamp.to_be_bytes());
            bytes.extend([0, 0, 0, 1]);
            let header = RtpHeader::parse(&bytes).unwrap();
            self.builder.push(&header, payload, None, &mut whole);
        }
        whole
    }
}

fn long(start: &str) -> Vec<u8> {
    let mut bytes = hex(start);
    bytes.resize(bytes.len() + 2_500, 0x55);
    bytes
}

#[test]
fn vp8_comes_out_as_it_went_in() {
    let mut sender = Sender::new(Codec::Vp8, Vp8Payloader::default());
    let (key, delta) = (long(VP8_KEY), hex(VP8_DELTA));
    assert!(sender.send(&delta, &[]).is_empty(), "there was no key frame yet");
    let frames = sender.send(&key, &[]);
    assert_eq!(frames, [Frame { timestamp: 6_000, key: true, size: Some((322, 182)), data: key.clone() }]);
    assert_eq!(sender.send(&delta, &[])[0].data, delta);
    assert!(!sender.builder.wants_key_frame());

    for lost in 0..3 {
        assert!(sender.send(&key, &[lost]).is_empty(), "a ruin: {lost}");
        assert!(sender.send(&delta, &[]).is_empty());
        assert!(sender.builder.wants_key_frame());
        assert_eq!(sender.send(&key, &[])[0].data, key);
    }
}

#[test]
fn vp9_comes_out_as_it_went_in() {
    let mut sender = Sender::new(Codec::Vp9, Vp9Payloader::default());
    let key = long("824983420014100b560638241c184200");
    let frames = sender.send(&key, &[]);
    assert_eq!((frames[0].key, frames[0].size), (true, Some((322, 182))));
    assert_eq!(frames[0].data, key);
}

#[test]
fn units_of_h264_get_their_lengths() {
    let mut sender = Sender::new(Codec::H264, H264Payloader::default());
    let idr = long(IDR);
    let start = [0, 0, 0, 1];
    let frame = [&start[..], &hex(SPS), &start, &hex(PPS), &start, &idr].concat();
    let frames = sender.send(&frame, &[]);
    let units: Vec<u8> = [hex(SPS), hex(PPS), idr]
        .iter()
        .flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat())
        .collect();
    assert_eq!(frames, [Frame { timestamp: 3_000, key: true, size: Some((322, 182)), data: units }]);
    assert!(sender.send(&frame, &[2]).is_empty(), "the middle of a unit");
}

#[test]
fn units_of_h265_get_their_lengths() {
    let mut sender = Sender::new(Codec::H265, HevcPayloader);
    let vps = "40010c01ffff01600000030090000003000003003c959809";
    let sps = "42010101600000030090000003000003003ca00a480b9c9596566924caf0168080000003008000000504";
    let units = [hex(vps), hex(sps), hex("4401c172b46240"), long("2801af0556261c8d")];
    let frame: Vec<u8> = units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect();
    let frames = sender.send(&frame, &[]);
    let expected: Vec<u8> =
        units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat()).collect();
    assert_eq!((frames[0].key, frames[0].size), (true, Some((322, 182))));
    assert_eq!(frames[0].data, expected);
}

#[test]
fn obus_of_av1_get_their_sizes() {
    let mut sender = Sender::new(Codec::Av1, Av1Payloader::default());
    // A temporal delimiter, a sequence header and a frame of 2,504 bytes.
    let frame = long("1200 0a0b000000043d06d4daf90040 32c813 1400a1f0");
    let frames = sender.send(&frame, &[]);
    assert_eq!((frames[0].key, frames[0].size), (true, Some((322, 182))));
    assert_eq!(frames[0].data, frame[2..], "but for the delimiter");
    assert!(sender.send(&frame, &[1]).is_empty());
}

#[test]
fn sound_has_no_ruins() {
    let mut builder = FrameBuilder::new(Codec::Opus);
    let header = RtpHeader::parse(&[0x80, 111, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1]).unwrap();
    let mut whole = Vec::new();
    builder.gap();
    builder.push(&header, &[0xf8, 0xff, 0xfe], None, &mut whole);
    builder.push(&header, &[], None, &mut whole);
    assert_eq!(whole, [Frame { timestamp: 9, key: true, size: None, data: vec![0xf8, 0xff, 0xfe] }]);
}

#[test]
fn damaged_payloads_make_no_frames_and_no_trouble() {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    let mut rng = StdRng::seed_from_u64(9);
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::H265, Codec::Av1] {
        let mut builder = FrameBuilder::new(codec);
        let mut whole = Vec::new();
        for timestamp in 0..20_000_u32 {
            let len = rng.random_range(0..40);
            let payload: Vec<u8> = (0..len).map(|_| rng.random()).collect();
            let mut bytes = vec![0x80, if rng.random() { 0xe0 } else { 0x60 }, 0, 1];
            bytes.extend((timestamp / 3).to_be_bytes());
            bytes.extend([0, 0, 0, 1]);
            builder.push(&RtpHeader::parse(&bytes).unwrap(), &payload, None, &mut whole);
            whole.clear();
        }
    }
}
