use std::time::{Duration, UNIX_EPOCH};

use veche_sfu_core::media::Codec;

use super::playlist::Date;
use super::*;
use crate::frames::Frame;

fn tracks() -> Vec<Track> {
    let track =
        |codec, size, private: &[u8]| Track { codec, size, private: private.to_vec(), name: String::new() };
    vec![track(Codec::H264, Some((320, 180)), &[1, 0x42, 0xc0, 0x1f]), track(Codec::Opus, None, &[])]
}

fn frame(ms: i64, key: bool, bytes: usize) -> TimedFrame {
    TimedFrame { time: ms * MS, frame: Frame { key, data: vec![0xf8; bytes], ..Frame::default() } }
}

fn live() -> Live {
    Live::new(&tracks(), 0, UNIX_EPOCH + Duration::from_secs(1_763_800_000))
}

/// 25 pictures a second, with key frames at multiples of `keys` ms, and sound: through `to` ms from `from` ms on.
fn feed(live: &mut Live, from: i64, to: i64, keys: i64) {
    for ms in (from..to).step_by(20) {
        if ms % 40 == 0 {
            live.write(0, &frame(ms, ms % keys == 0, 500));
        }
        live.write(1, &frame(ms, true, 50));
    }
}

fn list(live: &Live) -> String {
    match live.playlist(Wanted::default(), "") {
        Answer::Ready(list) => list,
        other => panic!("{other:?}"),
    }
}

fn values<'a>(list: &'a str, tag: &str) -> Vec<&'a str> {
    list.lines().filter_map(|line| line.strip_prefix(tag)).collect()
}

#[test]
fn segments_begin_with_key_frames_and_parts_have_their_length() {
    let mut live = live();
    feed(&mut live, 0, 7_000, 1_000);
    let list = list(&live);
    assert_eq!(values(&list, "#EXTINF:"), ["2.000,", "2.000,", "2.000,"]);
    assert_eq!(values(&list, "#EXT-X-MAP:"), ["URI=\"init-0.mp4\""]);
    assert_eq!(values(&list, "#EXT-X-TARGETDURATION:"), ["4"]);
    assert_eq!(values(&list, "#EXT-X-PROGRAM-DATE-TIME:")[1], "2025-11-22T08:26:42.000Z");
    let parts = values(&list, "#EXT-X-PART:");
    // Of the last two whole segments five each, and two of the one that grows.
    assert_eq!(parts.len(), 12);
    assert_eq!(parts[0], "DURATION=0.440,URI=\"1.0.m4s\",INDEPENDENT=YES");
    assert_eq!(parts[1], "DURATION=0.440,URI=\"1.1.m4s\"");
    assert_eq!(parts[4], "DURATION=0.240,URI=\"1.4.m4s\"");
    assert_eq!(values(&list, "#EXT-X-PRELOAD-HINT:"), ["TYPE=PART,URI=\"3.2.m4s\""]);
}

#[test]
fn without_key_frames_segments_end_all_the_same() {
    let mut live = live();
    assert!(live.wants_key_frame(0));
    feed(&mut live, 0, 1_990, 60_000);
    assert!(!live.wants_key_frame(1_990 * MS));
    feed(&mut live, 2_000, 8_000, 60_000);
    assert!(live.wants_key_frame(9_000 * MS), "two seconds after the last segment ended");
    let list = list(&live);
    assert_eq!(values(&list, "#EXTINF:"), ["3.500,", "3.500,"]);
    assert_eq!(list.matches("INDEPENDENT=YES").count(), 1, "players begin with the first");
}

#[test]
fn nothing_is_told_before_a_key_frame() {
    let mut live = live();
    feed(&mut live, 20, 900, 1_000);
    assert_eq!(live.playlist(Wanted::default(), ""), Answer::Wait);
    assert_eq!(live.part(0, 0), Answer::Wait);
    assert_eq!(live.multivariant("live.m3u8", ""), Answer::Wait);
    live.end(900 * MS);
    assert_eq!(live.playlist(Wanted::default(), ""), Answer::Missing);
    assert_eq!(live.part(0, 0), Answer::Missing);
}

#[test]
fn who_asks_for_what_comes_waits_until_it_is_there() {
    let mut live = live();
    feed(&mut live, 0, 2_880, 1_000);
    let wanted = |segment, part| Wanted { segment: Some(segment), part };
    let ready = |live: &Live, segment, part| match live.playlist(wanted(segment, part), "") {
        Answer::Ready(_) => Answer::Ready(()),
        Answer::Wait => Answer::Wait,
        Answer::Missing => Answer::Missing,
        Answer::TooFar => Answer::TooFar,
    };
    // Segment 0 is whole, and of 1 one part: the second ends with the next picture.
    assert_eq!(ready(&live, 0, None), Answer::Ready(()));
    assert_eq!(ready(&live, 0, Some(4)), Answer::Ready(()));
    assert_eq!(ready(&live, 0, Some(5)), Answer::Ready(()), "the same as the first of the next");
    assert_eq!(ready(&live, 1, Some(0)), Answer::Ready(()));
    assert_eq!(ready(&live, 1, Some(1)), Answer::Wait);
    assert_eq!(ready(&live, 1, None), Answer::Wait);
    assert_eq!([ready(&live, 3, None), ready(&live, 4, None)], [Answer::Wait, Answer::TooFar]);
    assert_eq!(live.part(1, 1), Answer::Wait);
    assert_eq!([live.part(1, 2), live.part(7, 0)], [Answer::Missing, Answer::Missing]);
    assert_eq!(live.segment(1), Answer::Wait);

    assert!(live.write(0, &frame(2_880, false, 500)), "who waits is woken");
    assert_eq!(ready(&live, 1, Some(1)), Answer::Ready(()));
    assert!(matches!(live.part(1, 1), Answer::Ready(_)));
    feed(&mut live, 2_900, 4_020, 1_000);
    assert_eq!(ready(&live, 1, None), Answer::Ready(()));
    assert_eq!(ready(&live, 1, Some(9)), Answer::Wait, "the first of the next is not there yet");
    let Answer::Ready(parts) = live.segment(1) else { panic!("it is whole") };
    assert_eq!(parts.len(), 5);
    live.end(4_020 * MS);
    assert_eq!(ready(&live, 9, None), Answer::Ready(()), "nothing is waited for any more");
    assert!(list(&live).ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn the_window_moves_on() {
    let mut live = live();
    feed(&mut live, 0, 60_000, 1_000);
    let list = list(&live);
    assert_eq!(values(&list, "#EXT-X-MEDIA-SEQUENCE:"), ["23"]);
    assert_eq!(values(&list, "#EXTINF:").len(), LISTED);
    assert_eq!(live.segments.len(), KEPT + 1);
    assert_eq!(live.segment(19), Answer::Missing);
    assert!(matches!(live.segment(21), Answer::Ready(_)), "for who has an older list");
}

#[test]
fn a_stream_of_any_size_fills_no_memory() {
    let mut live = live();
    for ms in (0..60_000).step_by(40) {
        live.write(0, &frame(ms, ms % 1_000 == 0, 1 << 20));
        assert!(live.segments.iter().map(Segment::bytes).sum::<usize>() < KEPT_BYTES + 2 * SEGMENT_BYTES);
    }
    assert!(!live.segments.is_empty());
}

#[test]
fn other_tracks_get_another_head() {
    let mut live = live();
    feed(&mut live, 0, 5_000, 1_000);
    let mut tracks = tracks();
    tracks[0].size = Some((640, 360));
    live.change(&tracks, 5_000 * MS);
    feed(&mut live, 5_000, 9_000, 1_000);
    let changed = list(&live);
    assert_eq!(values(&changed, "#EXT-X-MAP:"), ["URI=\"init-0.mp4\"", "URI=\"init-1.mp4\""]);
    assert_eq!(values(&changed, "#EXT-X-DISCONTINUITY").len(), 1);
    assert!(live.head(0) != live.head(1));
    feed(&mut live, 9_000, 40_000, 1_000);
    let later = list(&live);
    assert_eq!(values(&later, "#EXT-X-DISCONTINUITY"), ["-SEQUENCE:1"]);
    assert_eq!(live.head(0), Answer::Missing);
    assert_eq!(
        live.multivariant("live.m3u8", "?token=a").map_text(),
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-STREAM-INF:BANDWIDTH=135792,CODECS=\"avc1.42c01f,opus\",RESOLUTION=640x360\n\
         live.m3u8?token=a\n"
    );
}

impl Answer<String> {
    /// The text, with any bandwidth as one: that of headers and data is not this test's matter.
    fn map_text(self) -> String {
        let Self::Ready(text) = self else { panic!("{self:?}") };
        let (before, after) = text.split_once("BANDWIDTH=").unwrap();
        let (number, after) = after.split_once(',').unwrap();
        assert!((100_000..200_000).contains(&number.parse::<u32>().unwrap()), "{number}");
        format!("{before}BANDWIDTH=135792,{after}")
    }
}

#[test]
fn sound_alone_is_a_stream_too() {
    let mut live = Live::new(&tracks()[1..], 0, UNIX_EPOCH);
    for ms in (0..6_500).step_by(20) {
        live.write(0, &frame(ms, true, 50));
    }
    let list = list(&live);
    assert_eq!(values(&list, "#EXTINF:"), ["2.000,"; 3]);
    assert!(values(&list, "#EXT-X-PART:").iter().all(|part| part.ends_with("INDEPENDENT=YES")));
    assert!(!live.wants_key_frame(6_500 * MS));
}

#[test]
fn dates_and_codecs_are_as_the_standards_have_them() {
    let date = |seconds| Date(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    assert_eq!(date(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(date(951_782_400), "2000-02-29T00:00:00.000Z");
    assert_eq!(date(4_107_542_399), "2100-02-28T23:59:59.000Z");
    assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00.000Z");
    let name = |codec, private: &[u8]| {
        codecs::name(&Track { codec, size: None, private: private.to_vec(), name: String::new() })
    };
    assert_eq!(name(Codec::Vp9, &[0, 31, 0x82]), "vp09.00.31.08");
    assert_eq!(name(Codec::Av1, &[0x81, 0x08, 0x0c]), "av01.0.08M.08");
    let h265 = [1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0];
    assert_eq!(name(Codec::H265, &h265), "hvc1.1.6.L93.90");
}
