//! A live stream is read by ffmpeg, over HTTP, while it grows.

#[path = "shared/ffmpeg.rs"]
mod ffmpeg;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use ffmpeg::{Encoder, Folder, RATE, SECONDS, run};
use veche_recorder_core::container::Track;
use veche_recorder_core::frames::Frame;
use veche_recorder_core::hls::{Answer, Live, Wanted};
use veche_recorder_core::opus::SILENCE;
use veche_recorder_core::stream::TimedFrame;
use veche_sfu_core::media::Codec;

const MS: i64 = 1_000_000;

/// Something that is asked for.
type Asked = (&'static str, Vec<u8>);

/// A stream, and the frames that are still to come: they come when somebody waits for them.
struct Studio {
    live: Live,
    coming: std::vec::IntoIter<(usize, TimedFrame)>,
    /// How often the playlist was read.
    reads: usize,
}

impl Studio {
    fn new(frames: Vec<(usize, TimedFrame)>, tracks: &[Track]) -> Self {
        Self { live: Live::new(tracks, 0, SystemTime::now()), coming: frames.into_iter(), reads: 0 }
    }

    /// The next frame comes, or the end.
    fn go_on(&mut self) {
        match self.coming.next() {
            Some((track, timed)) => _ = self.live.write(track, &timed),
            None => self.live.end(SECONDS * 1_000 * MS),
        }
    }

    /// What is there under this address, as soon as it is there.
    fn get(&mut self, path: &str) -> Asked {
        if path == "/live.m3u8" {
            self.reads += 1;
        }
        // The first reader sees the first segment; whoever reads again, one more each time.
        let wanted = Wanted { segment: Some(self.reads.saturating_sub(1) as u64), part: None };
        let numbers: Vec<u64> =
            path.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        loop {
            let answer = match path {
                "/master.m3u8" => text(self.live.multivariant("live.m3u8", "")),
                "/live.m3u8" => text(self.live.playlist(wanted, "")),
                path if path.starts_with("/init-") => bytes(self.live.head(numbers[0]), |head| head.to_vec()),
                _ => bytes(self.live.segment(numbers[0]), |parts| parts.concat()),
            };
            match answer {
                Answer::Ready(asked) => return asked,
                Answer::Wait => self.go_on(),
                Answer::Missing | Answer::TooFar => panic!("{path}: {answer:?}"),
            }
        }
    }
}

fn text(answer: Answer<String>) -> Answer<Asked> {
    match answer {
        Answer::Ready(text) => Answer::Ready(("application/vnd.apple.mpegurl", text.into_bytes())),
        other => bytes(other, |_| unreachable!("it is ready")),
    }
}

fn bytes<T>(answer: Answer<T>, of: impl Fn(T) -> Vec<u8>) -> Answer<Asked> {
    match answer {
        Answer::Ready(held) => Answer::Ready(("video/mp4", of(held))),
        Answer::Wait => Answer::Wait,
        Answer::Missing => Answer::Missing,
        Answer::TooFar => Answer::TooFar,
    }
}

/// Serves the studio on loopback as long as the test runs; its address.
fn serve(studio: Arc<Mutex<Studio>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            answer(connection.unwrap(), &studio);
        }
    });
    address
}

fn answer(mut connection: TcpStream, studio: &Mutex<Studio>) {
    let mut lines = BufReader::new(&connection).lines();
    let request = lines.next().unwrap().unwrap();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        drop(line);
    }
    let path = request.split(' ').nth(1).unwrap();
    let (kind, body) = studio.lock().unwrap().get(path);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // A player that has seen enough hangs up.
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body));
}

fn recorded(encoder: Encoder, folder: &Folder) -> Vec<(usize, TimedFrame)> {
    let mut frames: Vec<(usize, TimedFrame)> = Vec::new();
    for (number, data) in (0..).zip(encoder.frames(&folder.0)) {
        let key = number % (2 * RATE) == 0;
        let frame = Frame { timestamp: 0, key, size: key.then_some((320, 180)), data: with_lengths(&data) };
        frames.push((0, TimedFrame { time: number * 1_000 / RATE * MS, frame }));
    }
    for number in 0..SECONDS * 50 {
        let frame = Frame { key: true, data: SILENCE.to_vec(), ..Frame::default() };
        frames.push((1, TimedFrame { time: number * 20 * MS, frame }));
    }
    frames.sort_by_key(|(track, timed)| (timed.time, *track));
    frames
}

/// The units of a frame of H264 with lengths before them instead of marks.
fn with_lengths(frame: &[u8]) -> Vec<u8> {
    let mark = [0, 0, 0, 1];
    let starts: Vec<usize> =
        (0..frame.len()).filter(|at| frame[*at..].starts_with(&mark)).chain([frame.len()]).collect();
    let unit = |around: &[usize]| {
        let unit = &frame[around[0] + mark.len()..around[1]];
        [&(unit.len() as u32).to_be_bytes(), unit].concat()
    };
    starts.windows(2).flat_map(unit).collect()
}

#[test]
fn ffmpeg_reads_a_stream_to_its_end() {
    let folder = Folder::new("live");
    let frames = recorded(Encoder::H264, &folder);
    let camera = Track::of(Codec::H264, &frames[0].1.frame, String::new()).unwrap();
    let voice = Track::of(Codec::Opus, &frames[1].1.frame, String::new()).unwrap();
    let studio = Arc::new(Mutex::new(Studio::new(frames, &[camera, voice])));
    let address = serve(Arc::clone(&studio)) + "/master.m3u8";
    let file = folder.0.join("read.mkv");
    // It warns that it has read the head once more.
    let read =
        ["-v", "error", "-live_start_index", "0", "-i", &address, "-c", "copy", "-y", file.to_str().unwrap()];
    run("ffmpeg", &read);
    assert!(studio.lock().unwrap().reads >= 2, "it was read while it grew");
    run("ffmpeg", &["-v", "warning", "-xerror", "-i", file.to_str().unwrap(), "-f", "null", "-"]);
    let entries = "format=duration:stream=codec_name,nb_read_packets";
    let arguments = ["-v", "error", "-count_packets", "-show_entries", entries, "-of", "csv=p=0"];
    let probed = run("ffprobe", &[&arguments[..], &[file.to_str().unwrap()]].concat());
    let lines: Vec<&str> = probed.lines().collect();
    assert_eq!(lines[..2], [format!("h264,{}", SECONDS * RATE), format!("opus,{}", SECONDS * 50)]);
    let duration: f64 = lines[2].parse().unwrap();
    assert!((duration - SECONDS as f64).abs() < 0.1, "{duration}");
}
