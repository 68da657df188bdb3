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
        // Killed while it was mended: once more.
        for done in 0..mend.patches.len() {
            let begun = patched([&whole[..*kept], &mend.append].concat(), &mend.patches[..done]);
            assert_eq!(look(&mut Cursor::new(&begun)).unwrap(), Some(mend.clone()), "{done}");
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

/// A file that counts how often it is read.
struct Counting<'a> {
    file: Cursor<&'a [u8]>,
    reads: usize,
}

impl std::io::Read for Counting<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.reads += 1;
        self.file.read(bytes)
    }
}

impl std::io::Seek for Counting<'_> {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn of_an_hour_only_the_beginnings_of_clusters_are_read() {
    let (mut writer, mut file) = Writer::new(&tracks(), 0, SystemTime::UNIX_EPOCH);
    let large = vec![7; 2_000];
    for ms in (0..3_600_000).step_by(20) {
        if ms % 40 == 0 {
            let frame = Frame { key: ms % 10_000 == 0, data: large.clone(), ..Frame::default() };
            file.extend(writer.write(0, &TimedFrame { time: ms * 1_000_000, frame }).unwrap_or_default());
        }
        file.extend(writer.write(1, &frame(ms, true)).unwrap_or_default());
    }
    file.extend(writer.flush().unwrap());
    let mut counting = Counting { file: Cursor::new(&file), reads: 0 };
    let mend = look(&mut counting).unwrap().unwrap();
    assert_eq!((mend.append, mend.patches), writer.finish(), "as if it had been finished");
    // Not for each of the 270,000 blocks.
    assert!(counting.reads < 3 * 3_600, "{}", counting.reads);
}
