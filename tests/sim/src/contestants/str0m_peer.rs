//! str0m, which has its estimator inside: two whole peers, with ICE, DTLS, SRTP, its own pacer, probes, repairs and feedback.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use str0m::bwe::{Bitrate, BweKind};
use str0m::format::Codec;
use str0m::media::{MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc};
use veche_testkit::congestion::{Content, End, Flow, Packet, Source, SourceConfig};

/// Where its estimate begins, as ours does.
const START: u64 = 600_000;
/// The largest payload, and what is around it: RTP header, extensions, tag.
const PAYLOAD: usize = 1150;
const HEADERS: usize = 40;
/// The shortest time between two looks at a peer's timers.
const TICK: Duration = Duration::from_millis(1);

pub(super) struct Str0m {
    sender: Peer,
    receiver: Peer,
    media: Mid,
    stream: Ssrc,
    payload_type: Pt,
    source: Source,
    running: bool,
    limit: u64,
    estimate: u64,
    next_frame: Instant,
    next_seq: u64,
    epoch: Instant,
    out: VecDeque<(End, Packet)>,
}

/// A peer, and when it wants to be told the time.
struct Peer {
    rtc: Rtc,
    address: SocketAddr,
    other: SocketAddr,
    due: Instant,
    /// Where what it sends goes.
    to: End,
}

impl Str0m {
    pub fn new(now: Instant, config: SourceConfig, rng: StdRng) -> Self {
        let crypto = std::sync::Arc::new(str0m::crypto::from_feature_flags());
        let build = |bandwidth: bool| {
            let builder = Rtc::builder().set_crypto_provider(crypto.clone()).set_rtp_mode(true);
            let start = bandwidth.then_some(Bitrate::bps(START));
            builder.enable_bwe(start).build(now)
        };
        let addresses = [([192, 0, 2, 1], 1000).into(), ([192, 0, 2, 2], 1000).into()];
        let [one, two] = addresses;
        let mut sender = Peer { rtc: build(true), address: one, other: two, due: now, to: End::Receiver };
        let mut receiver = Peer { rtc: build(false), address: two, other: one, due: now, to: End::Sender };
        introduce(&mut sender, &mut receiver);
        let (media, stream, repair) = (Mid::from("vid"), Ssrc::from(1), Ssrc::from(2));
        for peer in [&mut sender, &mut receiver] {
            peer.rtc.direct_api().declare_media(media, MediaKind::Video);
        }
        sender.rtc.direct_api().declare_stream_tx(stream, Some(repair), media, None);
        receiver.rtc.direct_api().expect_stream_rx(stream, Some(repair), media, None);
        receiver.rtc.direct_api().enable_twcc_feedback();
        let vp8 = sender.rtc.codec_config().find(|params| params.spec().codec == Codec::Vp8);
        let payload_type = vp8.expect("VP8 is there by default").pt();
        Self {
            sender,
            receiver,
            media,
            stream,
            payload_type,
            source: Source::new(config, rng),
            running: false,
            limit: u64::MAX,
            estimate: START,
            next_frame: now,
            next_seq: 1000,
            epoch: now,
            out: VecDeque::new(),
        }
    }

    fn encode(&mut self, now: Instant) {
        while self.running && self.next_frame <= now {
            self.next_frame += self.source.interval();
            let mut frame = self.source.frame(now, self.estimate.min(self.limit));
            if !self.sender.rtc.is_connected() {
                continue;
            }
            let timestamp = ((now - self.epoch).as_micros() * 9 / 100) as u32;
            while frame > 0 {
                let packet = frame.min(PAYLOAD + HEADERS);
                frame -= packet;
                let mut direct = self.sender.rtc.direct_api();
                let stream = direct.stream_tx_by_mid(self.media, None).expect("declared at the start");
                debug_assert_eq!(stream.ssrc(), self.stream);
                let payload = vec![0x10; packet.saturating_sub(HEADERS).max(10)];
                let seq = self.next_seq.into();
                let write = RtpWrite::new(self.payload_type, seq, timestamp, now, payload);
                stream.write_rtp(write.marker(frame == 0).nackable(true));
                self.next_seq += 1;
            }
            self.sender.due = now;
        }
    }

    fn drain(&mut self, now: Instant) {
        self.sender.run(now, &mut self.out, &mut |event| {
            if let Event::EgressBitrateEstimate(BweKind::Twcc { estimate, .. }) = event {
                self.estimate = estimate.as_u64();
            }
        });
        self.receiver.run(now, &mut self.out, &mut |_| {});
    }

    fn want(&mut self) {
        let wanted = if self.running { self.source.config.max.min(self.limit) } else { 0 };
        self.sender.rtc.bwe().set_bitrate(Bitrate::ZERO, Bitrate::bps(wanted));
    }
}

/// What signaling would do.
fn introduce(one: &mut Peer, two: &mut Peer) {
    for peer in [&mut *one, &mut *two] {
        let candidate = |address| Candidate::host(address, "udp").expect("an ordinary address");
        peer.rtc.add_local_candidate(candidate(peer.address));
        peer.rtc.add_remote_candidate(candidate(peer.other));
    }
    let of = |peer: &mut Peer| {
        let direct = peer.rtc.direct_api();
        (direct.local_dtls_fingerprint().clone(), direct.local_ice_credentials())
    };
    let (told_one, told_two) = (of(two), of(one));
    for (peer, (fingerprint, credentials), active) in [(one, told_one, true), (two, told_two, false)] {
        let mut direct = peer.rtc.direct_api();
        direct.set_remote_fingerprint(fingerprint);
        direct.set_remote_ice_credentials(credentials);
        direct.set_ice_controlling(active);
        direct.start_dtls(active).expect("not started yet");
    }
}

impl Peer {
    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        if let Ok(receive) = Receive::new(Protocol::Udp, self.other, self.address, datagram) {
            self.rtc.handle_input(Input::Receive(now, receive)).expect("what its peer sends is fine");
            self.due = now;
        }
    }

    /// Lets it do what is due.
    fn run(&mut self, now: Instant, out: &mut VecDeque<(End, Packet)>, take: &mut dyn FnMut(Event)) {
        if self.due > now {
            return;
        }
        self.rtc.handle_input(Input::Timeout(now)).expect("time passes");
        loop {
            match self.rtc.poll_output().expect("it goes on") {
                Output::Transmit(datagram) => {
                    let datagram = datagram.contents.to_vec();
                    let packet = Packet { bytes: datagram.len(), content: Content::Datagram(datagram) };
                    out.push_back((self.to, packet));
                }
                Output::Event(event) => take(event),
                Output::Timeout(due) => {
                    self.due = due.max(now + TICK);
                    return;
                }
            }
        }
    }
}

impl Flow for Str0m {
    fn handle_packet(&mut self, now: Instant, at: End, packet: Packet) {
        if let Content::Datagram(datagram) = packet.content {
            let peer = if at == End::Sender { &mut self.sender } else { &mut self.receiver };
            peer.handle_datagram(now, &datagram);
            self.drain(now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.encode(now);
        self.drain(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let frame = self.running.then_some(self.next_frame);
        frame.into_iter().chain([self.sender.due, self.receiver.due]).min()
    }

    fn poll_packet(&mut self, _now: Instant) -> Option<(End, Packet)> {
        self.out.pop_front()
    }

    fn set_running(&mut self, now: Instant, running: bool) {
        self.running = running;
        self.next_frame = now;
        self.want();
    }

    fn set_limit(&mut self, _now: Instant, bits: u64) {
        self.limit = bits;
        self.want();
    }

    fn target(&self) -> Option<u64> {
        Some(self.estimate)
    }
}
