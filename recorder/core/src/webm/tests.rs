use std::io::Cursor;

use super::ebml::Head;
use super::mend::look;
use super::*;
use crate::frames::Frame;

fn tracks() -> Vec<Track> {
    let track = |codec, size| Track { codec, size, private: Vec::new(), name: "Ana".to_owned() };
    vec![track(Codec::Vp8, Some((320, 180))), track(Codec::Opus, None)]
}

fn frame(ms: i64, key: bool) -> TimedFrame {
    TimedFrame { time: ms * 1_000_000, frame: Frame { key, data: vec![7; 100], ..Frame::default() } }
}

/// Three seconds of pictures, with key frames at 0 and 2 s, and of sound: the pieces of a file in order.
fn pieces() -> (Vec<Vec<u8>>, Vec<Patch>) {
    let (mut writer, head) = Writer::new(&tracks(), 0, SystemTime::UNIX_EPOCH);
    let mut pieces = vec![head];
    for ms in (0..3_000).step_by(20) {
        if ms % 40 == 0 {
            pieces.extend(writer.write(0, &frame(ms, ms % 2_000 == 0)));
        }
        pieces.extend(writer.write(1, &frame(ms, true)));
    }
    pieces.extend(writer.flush());
    let (end, patches) = writer.finish();
    pieces.push(end);
    (pieces, patches)
}

fn patched(mut file: Vec<u8>, patches: &[Patch]) -> Vec<u8> {
    for Patch { position, bytes } in patches {
        let at = *position as usize;
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
    file
}

#[test]
fn a_file_has_a_cluster_for_each_second_and_an_index() {
    let (pieces, patches) = pieces();
    assert_eq!(pieces.len(), 1 + 3 + 1, "head, clusters, index");
    for cluster in &pieces[1..4] {
        let head = Head::read(cluster).unwrap();
        assert_eq!((head.element, head.size), (Element::CLUSTER, Some((cluster.len() - head.len) as u64)));
    }
    assert_eq!(Head::read(&pieces[4]).unwrap().element, Element::CUES);
    let unfinished = pieces.concat();
    let file = patched(unfinished.clone(), &patches);
    assert_eq!(file.len(), unfinished.len());
    assert_eq!(look(&mut Cursor::new(&file)).unwrap(), None, "nothing to mend");
}

#[test]
fn wherever_the_writer_ends_what_is_whole_is_mended() {
    let (pieces, patches) = pieces();
    let whole = pieces.concat();
    let ends: Vec<usize> = pieces
        .iter()
        .scan(0, |end, piece| {
            *end += piece.len();
            Some(*end)
        })
        .collect();
    let finished = patched(whole.clone(), &patches);
    for cut in (ends[0]..=whole.len()).step_by(37).chain(ends.clone()) {
        let mend = look(&mut Cursor::new(&whole[..cut])).unwrap().unwrap();
        let kept = ends[..4].iter().rev().find(|end| **end <= cut).unwrap();
        assert_eq!(mend.keep, *kept as u64, "{cut}");
        let mended = patched([&whole[..*kept], &mend.append].concat(), &mend.patches);
        assert_eq!(look(&mut Cursor::new(&mended)).unwrap(), None);
        if *kept == ends[3] {
            assert!(mended == finished, "as if it had been finished");
        }
    }
    for cut in 0..ends[0] {
        assert_eq!(look(&mut Cursor::new(&whole[..cut])).unwrap(), None, "no head: {cut}");
    }
}

#[test]
fn what_is_no_file_of_ours_is_left_alone() {
    for bytes in [&b""[..], b"hello, this is no WebM file at all", &[0x1a, 0x45, 0xdf, 0xa3, 0x80]] {
        assert_eq!(look(&mut Cursor::new(bytes)).unwrap(), None);
    }
}
