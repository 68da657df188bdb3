use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn frame(units: &[&str]) -> Vec<u8> {
    let with_length = |unit: &&str| [&(hex(unit).len() as u32).to_be_bytes()[..], &hex(unit)].concat();
    units.iter().flat_map(with_length).collect()
}

/// Parameter sets of x264 (High) and x265 (Main), of 322x182.
const SPS: &str = "6764000bacb60a8cf1136022000003000200000300291e2855c0";
const PPS: &str = "68eac04d2c8b";
const IDR: &str = "65888404affeb5df32c544f1fb75e280";
const H265: [&str; 4] = [
    "40010c01ffff01600000030090000003000003003c959809",
    "42010101600000030090000003000003003ca00a480b9c9596566924caf0168080000003008000000504",
    "4401c172b46240",
    "2801af0556261c8d",
];
/// A sequence header of libaom, and the start of a key frame.
const AV1: &str = "0a0b 000000043d06d4daf90040 3204 1400a1f0";
/// A key frame of libvpx.
const VP9: &str = "824983420014100b560638241c184200";
/// The same of VP8.
const VP8: &str = "3059009d012a4201b60000070885";

#[test]
fn parameter_sets_of_h264_are_kept_once() {
    let record = record(Codec::H264, &frame(&[SPS, PPS, SPS, PPS, IDR])).unwrap();
    let expected = format!("01 64000b ff e1 001a {SPS} 01 0006 {PPS} fd f8 f8 00");
    assert_eq!(record, hex(&expected));
}

#[test]
fn h265_tells_its_profile_and_colours() {
    let record = record(Codec::H265, &frame(&H265)).unwrap();
    let profile = "01 60000000 900000000000 3c";
    let [video, sequence, picture, _] = H265;
    let expected = format!(
        "01 {profile} f000 fc fd f8 f8 0000 0f 03 a0 0001 0018 {video} a1 0001 002a {sequence} a2 0001 0007 {picture}"
    );
    assert_eq!(record, hex(&expected));
}

#[test]
fn av1_vp9_and_vp8_tell_theirs() {
    assert_eq!(record(Codec::Av1, &hex(AV1)).unwrap(), hex("81 00 0c 00 0a0b 000000043d06d4daf90040"));
    assert_eq!(record(Codec::Vp9, &hex(VP9)).unwrap(), [0, 11, 0x82, 2, 2, 2, 0, 0]);
    assert_eq!(record(Codec::Vp8, &hex(VP8)).unwrap(), [0, 11, 0x82, 2, 2, 2, 0, 0]);
}

#[test]
fn samples_do_not_repeat_what_the_record_has() {
    let record_h264 = record(Codec::H264, &frame(&[SPS, PPS, IDR])).unwrap();
    assert_eq!(*sample(Codec::H264, &record_h264, &frame(&[SPS, PPS, IDR])), frame(&[IDR]));
    let other = "68eac04d2c8a";
    assert_eq!(*sample(Codec::H264, &record_h264, &frame(&[SPS, other, IDR])), frame(&[other, IDR]));
    assert_eq!(*sample(Codec::H264, &record_h264, &frame(&[SPS, PPS])), frame(&[SPS, PPS]), "or nothing");
    let record_h265 = record(Codec::H265, &frame(&H265)).unwrap();
    assert_eq!(*sample(Codec::H265, &record_h265, &frame(&H265)), frame(&H265[3..]));
    let record_vp9 = record(Codec::Vp9, &hex(VP9)).unwrap();
    assert_eq!(*sample(Codec::Vp9, &record_vp9, &hex(VP9)), hex(VP9));
}

#[test]
fn a_frame_without_what_is_needed_has_no_record() {
    assert_eq!(record(Codec::H264, &frame(&[IDR])), None);
    assert_eq!(record(Codec::H264, &frame(&[SPS, IDR])), None);
    assert_eq!(record(Codec::H265, &frame(&H265[1..])), None);
    assert_eq!(record(Codec::Av1, &hex("3204 1400a1f0")), None);
    assert_eq!(record(Codec::Vp9, &hex("8649834200")), None, "no key frame");
    assert_eq!(record(Codec::Vp8, &hex("3159009d012a4201b600")), None, "no key frame");
}

#[test]
fn damaged_frames_are_no_trouble() {
    let whole = [
        (Codec::H264, frame(&[SPS, PPS, IDR])),
        (Codec::H265, frame(&H265)),
        (Codec::Av1, hex(AV1)),
        (Codec::Vp9, hex(VP9)),
        (Codec::Vp8, hex(VP8)),
    ];
    for (codec, frame) in whole {
        for at in 0..frame.len() {
            let _ = record(codec, &frame[..at]);
            let _ = sample(codec, &frame, &frame[..at]);
            for bit in 0..8 {
                let mut damaged = frame.clone();
                damaged[at] ^= 1 << bit;
                let _ = record(codec, &damaged);
            }
        }
    }
}
