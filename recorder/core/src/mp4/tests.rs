use std::io::Cursor;

use veche_sfu_core::media::Codec;

use super::mend::look;
use super::*;
use crate::frames::Frame;

fn tracks() -> Vec<Track> {
    let track = |codec, size| Track { codec, size, private: vec![1], name: "Ana".to_owned() };
    vec![track(Codec::H264, Some((320, 180))), track(Codec::Opus, None)]
}

fn frame(ms: i64, key: bool) -> TimedFrame {
    let data = vec![0xf8; 100];
    TimedFrame { time: ms * 1_000_000, frame: Frame { key, data, ..Frame::default() } }
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
    assert!(end.is_empty());
    (pieces, patches)
}

fn patched(mut file: Vec<u8>, patches: &[Patch]) -> Vec<u8> {
    for Patch { position, bytes } in patches {
        let at = *position as usize;
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
    file
}

fn named(bytes: &[u8]) -> Vec<String> {
    boxes::each(bytes).map(|(name, _)| String::from_utf8(name.to_vec()).unwrap()).collect()
}

#[test]
fn a_file_has_a_fragment_for_each_second_and_an_index() {
    let (pieces, patches) = pieces();
    assert_eq!(named(&pieces[0]), ["ftyp", "moov", "free"]);
    assert_eq!(pieces.len(), 1 + 5, "a key frame at 2 s begins a fragment");
    assert!(pieces[1..].iter().all(|piece| named(piece) == ["moof", "mdat"]));
    let unfinished = pieces.concat();
    let file = patched(unfinished.clone(), &patches);
    assert_eq!(file.len(), unfinished.len());
    assert_eq!(named(&file)[..5], ["ftyp", "moov", "sidx", "free", "moof"]);
    assert_eq!(look(&mut Cursor::new(&file)).unwrap(), None, "nothing to mend");
    let moov = boxes::find(*b"moov", &file).unwrap();
    let duration = boxes::find(*b"mehd", boxes::find(*b"mvex", moov).unwrap()).unwrap();
    assert_eq!(boxes::get64(duration, 4), Some(3_000));
}

#[test]
fn the_index_names_the_key_frames() {
    let (pieces, patches) = pieces();
    let file = patched(pieces.concat(), &patches);
    let sidx = boxes::find(*b"sidx", &file).unwrap();
    let listed: Vec<[u32; 3]> = sidx[32..]
        .chunks_exact(12)
        .map(|place| [0, 4, 8].map(|at| boxes::get32(place, at).unwrap()))
        .collect();
    let sizes: Vec<u32> = pieces[1..].iter().map(|piece| piece.len() as u32).collect();
    let stretches = [sizes[0] + sizes[1] + sizes[2], sizes[3] + sizes[4]];
    assert_eq!(listed, [[stretches[0], 180_000, 0x9000_0000], [stretches[1], 90_000, 0x9000_0000]]);
}

#[test]
fn a_long_file_names_fewer_than_it_has() {
    let (mut writer, mut file) = Writer::new(&tracks()[..1], 0, SystemTime::UNIX_EPOCH);
    for ms in (0..2_500_000).step_by(500) {
        file.extend(writer.write(0, &frame(ms, true)).unwrap_or_default());
    }
    file.extend(writer.flush().unwrap());
    let (_, patches) = writer.finish();
    let file = patched(file, &patches);
    let sidx = boxes::find(*b"sidx", &file).unwrap();
    let places: Vec<_> = sidx[32..].chunks_exact(12).collect();
    assert_eq!(places.len(), 1_000);
    let sum = |at| places.iter().map(|place| u64::from(boxes::get32(place, at).unwrap())).sum::<u64>();
    let first = boxes::each(&file)
        .take_while(|(name, _)| name != b"moof")
        .map(|(_, inside)| 8 + inside.len())
        .sum::<usize>();
    assert_eq!((sum(0), sum(4)), ((file.len() - first) as u64, 2_500 * 90_000));
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
        let kept = ends.iter().rev().find(|end| **end <= cut).unwrap();
        assert_eq!(mend.keep, *kept as u64, "{cut}");
        let mended = patched([&whole[..*kept], &mend.append].concat(), &mend.patches);
        assert_eq!(look(&mut Cursor::new(&mended)).unwrap(), None);
        if *kept == whole.len() {
            assert!(mended == finished, "as if it had been finished");
        }
        // Killed while it was mended: once more.
        let begun =
            patched([&whole[..*kept], &mend.append].concat(), &mend.patches[..mend.patches.len() - 1]);
        assert_eq!(look(&mut Cursor::new(&begun)).unwrap().unwrap().patches, mend.patches);
    }
    for cut in 0..ends[0] {
        assert_eq!(look(&mut Cursor::new(&whole[..cut])).unwrap(), None, "no head: {cut}");
    }
}

#[test]
fn what_is_damaged_is_stepped_over() {
    let (pieces, _) = pieces();
    let whole = pieces.concat();
    let second = pieces[0].len() + pieces[1].len();
    let head = boxes::get32(&pieces[2], 0).unwrap() as usize;
    let mut stepped = 0;
    // Whatever bit of a fragment's head it is, but for its size: what follows stays.
    for bit in 64..head * 8 {
        let mut file = whole.clone();
        file[second + bit / 8] ^= 0x80 >> (bit % 8);
        let mend = look(&mut Cursor::new(&file)).unwrap().unwrap();
        assert_eq!(mend.keep, whole.len() as u64, "{bit}");
        // Killed while it was mended: once more.
        for done in 0..mend.patches.len() {
            let begun = patched(file.clone(), &mend.patches[..done]);
            assert_eq!(look(&mut Cursor::new(&begun)).unwrap().as_ref(), Some(&mend));
        }
        let mended = patched(file, &mend.patches);
        assert_eq!(look(&mut Cursor::new(&mended)).unwrap(), None);
        let fragments = named(&mended).iter().filter(|name| *name == "moof").count();
        assert!(fragments >= 4);
        if fragments == 4 {
            stepped += 1;
            let moov = boxes::find(*b"moov", &mended).unwrap();
            let duration = boxes::find(*b"mehd", boxes::find(*b"mvex", moov).unwrap()).unwrap();
            assert_eq!(boxes::get64(duration, 4), Some(3_000), "as long as before");
        }
    }
    assert!(stepped > 100, "{stepped}");
}

#[test]
fn times_that_cannot_be_are_damage() {
    let (pieces, patches) = pieces();
    let whole = pieces.concat();
    let second = pieces[0].len() + pieces[1].len();
    // The time of its first track is behind these boxes.
    let time = second + 8 + 16 + 8 + 16 + 12;
    // It begins with the second, or with a picture shortly before it.
    assert!((80_000..=90_000).contains(&boxes::get64(&whole, time).unwrap()));
    for (ticks, can_be) in [(0, true), (91_000, true), (u64::MAX, false), (1 << 63, false), (1 << 40, false)]
    {
        let mut file = whole.clone();
        file[time..time + 8].copy_from_slice(&u64::to_be_bytes(ticks));
        let mend = look(&mut Cursor::new(&file)).unwrap().unwrap();
        assert_eq!((mend.keep, mend.patches.len() == patches.len()), (whole.len() as u64, can_be), "{ticks}");
    }
}

#[test]
fn media_that_stand_still_do_not_fill_a_fragment() {
    let (mut writer, head) = Writer::new(&tracks()[1..], 0, SystemTime::UNIX_EPOCH);
    let mut pieces = vec![head];
    for number in 0..50_000 {
        let frame = Frame { key: true, data: vec![0xf8], ..Frame::default() };
        pieces.extend(writer.write(0, &TimedFrame { time: number, frame }));
    }
    pieces.extend(writer.flush());
    assert_eq!(pieces.len(), 1 + 50_000_usize.div_ceil(4_096));
    let file = pieces.concat();
    let mend = look(&mut Cursor::new(&file)).unwrap().unwrap();
    assert_eq!((mend.keep, mend.patches), (file.len() as u64, writer.finish().1));
}

#[test]
fn sound_does_not_overlap_where_its_clock_is_corrected() {
    let (mut writer, mut file) = Writer::new(&tracks()[1..], 0, SystemTime::UNIX_EPOCH);
    for number in 0..500 {
        // Each packet comes a little earlier than the one before it ends.
        let time = number * 19_900_000;
        let frame = Frame { key: true, data: crate::opus::SILENCE.to_vec(), ..Frame::default() };
        file.extend(writer.write(0, &TimedFrame { time, frame }).unwrap_or_default());
    }
    file.extend(writer.flush().unwrap());
    let mut end = 0;
    for (_, moof) in boxes::each(&file).filter(|(name, _)| name == b"moof") {
        let traf = boxes::find(*b"traf", moof).unwrap();
        let from = boxes::get64(boxes::find(*b"tfdt", traf).unwrap(), 4).unwrap();
        assert!(from >= end, "{from} is before {end}");
        let samples = &boxes::find(*b"trun", traf).unwrap()[12..];
        let durations = samples.chunks_exact(12).map(|sample| u64::from(boxes::get32(sample, 0).unwrap()));
        end = from + durations.sum::<u64>();
    }
    let late = end as i64 / 48 - 500 * 199 / 10;
    assert!((0..20).contains(&late), "it does not add up: {late} ms");
}

#[test]
fn vp8_beside_others_has_its_whole_record() {
    let record = vec![0, 11, 0x82, 2, 2, 2, 0, 0];
    let screen = Track { codec: Codec::Vp8, private: record.clone(), ..tracks()[0].clone() };
    let (_, head) = Writer::new(&[tracks()[0].clone(), screen], 0, SystemTime::UNIX_EPOCH);
    let at = head.windows(4).position(|name| name == b"vpcC").unwrap();
    assert_eq!(boxes::get32(&head, at - 4), Some(8 + 4 + 8), "with its version and flags");
    assert_eq!(head[at + 8..at + 16], record);
}

#[test]
fn what_is_no_file_of_ours_is_left_alone() {
    for bytes in
        [&b""[..], b"hello, this is no MP4 file at all", b"\0\0\0\x08ftyp", b"\0\0\0\x08ftyp\0\0\0\x08moov"]
    {
        assert_eq!(look(&mut Cursor::new(bytes)).unwrap(), None);
    }
}

#[test]
fn a_pause_keeps_its_length() {
    let (mut writer, head) = Writer::new(&tracks()[1..], 0, SystemTime::UNIX_EPOCH);
    let mut file = head;
    for ms in [0, 20, 500, 5_000, 5_020] {
        file.extend(writer.write(0, &frame(ms, true)).unwrap_or_default());
    }
    file.extend(writer.flush().unwrap());
    let times: Vec<u64> = boxes::each(&file)
        .filter(|(name, _)| name == b"moof")
        .map(|(_, moof)| boxes::find(*b"tfdt", boxes::find(*b"traf", moof).unwrap()).unwrap())
        .map(|tfdt| boxes::get64(tfdt, 4).unwrap() / 48)
        .collect();
    assert_eq!(times, [0, 5_000]);
    let patches = writer.finish().1;
    assert_eq!(boxes::get64(&patches[1].bytes, 12), Some(5_040));
}
