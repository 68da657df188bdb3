//! The command line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use veche_testkit::network::LinkConfig;

use crate::expect::Expectation;
use crate::negotiation::Feedback;
use crate::recording::Recording;
use crate::run::Options;
use crate::scenario::{AudioTrack, Scenario, VideoTrack};
use crate::synthetic::VideoShape;
use crate::units;
use crate::voice::Speech;

/// Puts a media server under load and measures from outside what it does.
///
/// Clients make the full ICE and DTLS handshake and send what browsers send. The exit code is 0 when everything was as
/// expected, 3 when not, 1 when there was no run.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// The server's address.
    #[arg(long, default_value = "http://127.0.0.1:8000", value_name = "URL")]
    pub server: String,
    /// What kind of server it is.
    #[arg(long, value_enum, default_value_t = Kind::Veche)]
    pub target: Kind,
    /// How many rooms, all alike.
    #[arg(long, default_value_t = 1, value_name = "N")]
    rooms: usize,
    /// In each room: how many only publish.
    #[arg(long, default_value_t = 0, value_name = "N")]
    publishers: usize,
    /// In each room: how many only watch.
    #[arg(long, default_value_t = 0, value_name = "N")]
    subscribers: usize,
    /// In each room: how many publish and watch all others.
    #[arg(long, default_value_t = 0, value_name = "N")]
    participants: usize,
    /// What everybody publishes.
    #[arg(long, value_enum, default_value_t = Tracks::Video)]
    tracks: Tracks,
    /// Video: frames per second.
    #[arg(long, default_value_t = 30, value_name = "N")]
    frame_rate: u32,
    /// Video: packets per frame.
    #[arg(long, default_value_t = 10, value_name = "N")]
    frame_packets: u32,
    /// Video: bytes per payload.
    #[arg(long, default_value_t = 1100, value_name = "BYTES")]
    payload: usize,
    /// Video: three layers; the others have a tenth and a quarter of the packets.
    #[arg(long)]
    simulcast: bool,
    /// Video: a recording to be sent in a loop, IVF with VP8 or an H264 stream (Annex B).
    #[arg(long, value_name = "FILE", conflicts_with = "simulcast")]
    video_file: Option<PathBuf>,
    /// Audio: who speaks when.
    #[arg(long, value_enum, default_value_t = Speech::Spurts)]
    speech: Speech,
    /// Audio: bytes per payload, one every 20 ms.
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    voice_payload: usize,
    /// Audio: a recording to be sent in a loop, Ogg with Opus.
    #[arg(long, value_name = "FILE")]
    audio_file: Option<PathBuf>,
    /// How many pictures one watches at most [default: all others'].
    #[arg(long, value_name = "N")]
    video_slots: Option<usize>,
    /// How many voices one hears at most [default: all others'].
    #[arg(long, value_name = "N")]
    audio_slots: Option<usize>,
    /// The size that pictures are shown at; 0x0 for as large as there is.
    #[arg(long, default_value = "0x0", value_parser = size, value_name = "SIZE")]
    pub size: (u32, u32),
    /// How long to measure.
    #[arg(long, default_value = "30s", value_parser = units::duration, value_name = "TIME")]
    duration: Duration,
    /// From when everybody sees everything to the measured time.
    #[arg(long, default_value = "3s", value_parser = units::duration, value_name = "TIME")]
    warmup: Duration,
    /// How many join in a second.
    #[arg(long, default_value_t = 25.0, value_name = "N")]
    join_rate: f64,
    /// Threads that generate load.
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,
    /// The cores that this tool runs on, as 1 or 2,3 [default: all].
    #[arg(long, value_delimiter = ',', value_name = "CORES")]
    cores: Vec<usize>,
    /// Look at sockets so seldom at most: this tool takes less CPU, and measures up to so much more delay.
    #[arg(long, default_value = "0s", value_parser = units::duration, value_name = "TIME")]
    hold: Duration,
    /// One of so many received packets is decrypted, for its delay.
    #[arg(long, default_value_t = 20, value_name = "N")]
    sample: u32,
    /// What clients tell of what they receive, beside receiver reports, NACK and PLI.
    #[arg(long, value_enum, default_value_t = Feedback::TransportCc)]
    feedback: Feedback,
    /// Network: the share of packets lost, in each direction, such as 1%.
    #[arg(long, value_parser = units::share, value_name = "SHARE")]
    loss: Option<f64>,
    /// Network: delay in each direction.
    #[arg(long, value_parser = units::duration, value_name = "TIME")]
    delay: Option<Duration>,
    /// Network: up to so much more delay, in each direction.
    #[arg(long, value_parser = units::duration, value_name = "TIME")]
    jitter: Option<Duration>,
    /// Network: bits per second in each direction, such as 2M.
    #[arg(long, value_parser = units::rate, value_name = "RATE")]
    rate: Option<u64>,
    /// Whose network that is.
    #[arg(long, value_enum, default_value_t = Whose::Subscribers)]
    impair: Whose,
    /// The server's process, to measure what it takes.
    #[arg(long)]
    pid: Option<u32>,
    /// What must hold, such as loss<=0.1%, p99<=20ms, ttff<=1s, delivered>=99.9%. May be given again.
    #[arg(long, value_name = "EXPECTATION")]
    pub expect: Vec<Expectation>,
    /// Print a report for programs instead of a table.
    #[arg(long)]
    pub json: bool,
    /// No line for each second.
    #[arg(long)]
    quiet: bool,
    /// What the names of rooms begin with.
    #[arg(long, default_value = "load", value_name = "NAME")]
    room: String,
    /// Of all that chance decides.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// This project's server.
    Veche,
    /// The video room of Janus, by its WebSocket: ws://127.0.0.1:8188.
    Janus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tracks {
    /// A camera.
    Video,
    /// A microphone.
    Audio,
    /// Both.
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// Of those who only watch.
    Subscribers,
    /// Of those who publish.
    Publishers,
    /// Everybody's.
    All,
}

impl Arguments {
    /// What is to be done.
    pub fn scenario(&self) -> Result<Scenario> {
        let nobody = self.publishers + self.subscribers + self.participants == 0;
        let video = matches!(self.tracks, Tracks::Video | Tracks::Both);
        let audio = matches!(self.tracks, Tracks::Audio | Tracks::Both);
        let read = |path: &Option<PathBuf>| path.as_deref().map(Recording::read).transpose();
        let video = match read(&self.video_file)? {
            Some(recording) => Some(VideoTrack::Recorded(Arc::new(recording))),
            None => video.then_some(VideoTrack::Synthetic { shape: self.shape(), simulcast: self.simulcast }),
        };
        let speech = self.speech;
        let audio = match read(&self.audio_file)? {
            Some(recording) => Some(AudioTrack::Recorded { recording: Arc::new(recording), speech }),
            None => audio.then_some(AudioTrack::Synthetic { payload: self.voice_payload, speech }),
        };
        let scenario = Scenario {
            rooms: self.rooms,
            publishers: if nobody { 1 } else { self.publishers },
            subscribers: if nobody { 10 } else { self.subscribers },
            participants: self.participants,
            video,
            audio,
            video_slots: self.video_slots,
            audio_slots: self.audio_slots,
        };
        scenario.check()?;
        Ok(scenario)
    }

    /// How to do it.
    pub fn options(&self) -> Result<Options> {
        ensure!(self.join_rate > 0.0, "somebody must join");
        ensure!(!self.duration.is_zero(), "there must be time to measure");
        ensure!((1..=256).contains(&self.threads), "1 to 256 threads");
        let network = self.network();
        let impaired = |whose: &[Whose]| network.filter(|_| whose.contains(&self.impair));
        Ok(Options {
            host: host(&self.server),
            room: self.room.clone(),
            duration: self.duration,
            warmup: self.warmup,
            join_rate: self.join_rate,
            threads: self.threads,
            cores: self.cores.clone(),
            hold: self.hold,
            sample: self.sample,
            feedback: self.feedback,
            publisher_network: impaired(&[Whose::Publishers, Whose::All]),
            subscriber_network: impaired(&[Whose::Subscribers, Whose::All]),
            pid: self.pid,
            seed: self.seed,
            per_second: !self.quiet,
        })
    }

    fn shape(&self) -> VideoShape {
        let (rate, packets, payload) = (self.frame_rate, self.frame_packets, self.payload);
        VideoShape { size: (1280, 720), rate, packets, payload }
    }

    fn network(&self) -> Option<LinkConfig> {
        let some =
            self.loss.is_some() || self.delay.is_some() || self.jitter.is_some() || self.rate.is_some();
        some.then(|| LinkConfig {
            loss: self.loss.unwrap_or_default(),
            jitter: self.jitter.unwrap_or_default(),
            rate: self.rate,
            ..LinkConfig::slow(self.delay.unwrap_or_default())
        })
    }
}

fn size(text: &str) -> Result<(u32, u32)> {
    units::size(text).map(|(width, height)| (width.into(), height.into()))
}

/// The host in an address such as `http://host:8000/path` or `[::1]:8000`.
fn host(server: &str) -> String {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.to_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        let arguments = Arguments::parse_from(["veche-load", "--loss", "1%", "--impair", "all"]);
        let scenario = arguments.scenario().unwrap();
        assert_eq!((scenario.publishers, scenario.subscribers), (1, 10));
        let options = arguments.options().unwrap();
        assert!(
            options.publisher_network.is_some_and(|network| network.loss > 0.0 && network.delay.is_zero())
        );
        assert!(Arguments::try_parse_from(["veche-load", "--expect", "loss"]).is_err());
    }

    #[test]
    fn hosts_are_found_in_addresses() {
        let hosts = ["http://a.b:80/x", "127.0.0.1:8000", "ws://[::1]:8188", "name"].map(host);
        assert_eq!(hosts, ["a.b", "127.0.0.1", "::1", "name"]);
    }
}
