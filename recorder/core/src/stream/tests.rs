use veche_sfu_core::rtp::RtpHeader;

use super::*;

const MS: i64 = 1_000_000;

fn packet(seq: u16, timestamp: u32, arrived: i64) -> Packet {
    let mut bytes = vec![0x80, 0x80 | 0x6f];
    bytes.extend(seq.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0xf8, 0xff, 0xfe]);
    let header = RtpHeader::parse(&bytes).unwrap();
    Packet { arrived, repaired: false, red: false, header, bytes }
}

fn taken(stream: &mut Stream, now: i64) -> Vec<i64> {
    let mut frames = Vec::new();
    stream.take(now, &mut frames);
    frames.iter().map(|timed| timed.time / MS).collect()
}

#[test]
fn frames_have_the_times_of_their_samples() {
    let mut stream = Stream::new(Codec::Opus, ExtensionIds::default());
    for (seq, arrived) in [(0, 1_000), (1, 1_035), (3, 1_061), (2, 1_075)] {
        assert!(stream.on_packet(packet(seq, u32::from(seq) * 960, arrived * MS)));
    }
    assert_eq!(taken(&mut stream, 1_100 * MS), [1_000, 1_020, 1_040, 1_060]);
    // A pause of five seconds in which nothing was sent.
    stream.on_packet(packet(4, 4 * 960 + 240_000, 6_085 * MS));
    assert_eq!(taken(&mut stream, 6_090 * MS), [6_080]);
}

#[test]
fn what_is_lost_shifts_nothing() {
    let mut stream = Stream::new(Codec::Opus, ExtensionIds::default());
    let mut times = Vec::new();
    for number in (0..500_u16).filter(|number| number % 7 != 3) {
        let arrived = (1_000 + i64::from(number) * 20) * MS;
        stream.on_packet(packet(number, u32::from(number) * 960, arrived));
        times.extend(taken(&mut stream, arrived));
    }
    times.extend(taken(&mut stream, 60_000 * MS));
    let expected = (0..500_i64).filter(|number| number % 7 != 3).map(|number| 1_000 + number * 20);
    assert_eq!(times, expected.collect::<Vec<_>>());
}

#[test]
fn a_gap_holds_back_what_is_complete() {
    let mut stream = Stream::new(Codec::Opus, ExtensionIds::default());
    stream.on_packet(packet(0, 0, 0));
    stream.on_packet(packet(2, 1_920, 40 * MS));
    assert_eq!(taken(&mut stream, 500 * MS), [0]);
    assert_eq!(stream.complete_through(500 * MS), 40 * MS - JITTER);
    assert_eq!(taken(&mut stream, 1_140 * MS), [40]);
    assert_eq!(stream.complete_through(1_140 * MS), 1_140 * MS - JITTER);
}
