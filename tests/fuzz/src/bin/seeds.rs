//! Writes the seeds of all targets: real packets, made with the core's own writers. To be run after a change of what
//! inputs look like: `cargo run -p veche-fuzz`. Seeds of bugs that were found are not touched.

use std::fs;
use std::path::Path;

use prost::Message as _;
use veche_fuzz::bridge;
use veche_fuzz::engine::{OFFER, kind};
use veche_fuzz::records;
use veche_fuzz::stun_request::binding_request;
use veche_fuzz::turn;
use veche_messaging::proto::client_message::Message;
use veche_messaging::proto::{self, action, notify, send};
use veche_sfu_core::bridge::packet::{BridgePacket, BridgeReport, StreamId};
use veche_sfu_core::data::dcep::{DcepMessage, Open, Reliability};
use veche_sfu_core::data::frame::Frame;
use veche_sfu_core::ids::{PayloadType, Ssrc};
use veche_sfu_core::rtcp::feedback::{write_fir, write_nack, write_pli, write_remb};
use veche_sfu_core::rtcp::report::{write_receiver_report, write_sender_report};
use veche_sfu_core::rtcp::source::write_cname;
use veche_sfu_core::rtcp::{ReportBlock, SenderInfo, TransportFeedbackBuilder};
use veche_sfu_core::rtp::writer::HeaderWriter;
use veche_stun::Writer;

/// A VP8 payload: descriptor with picture id, TL0PICIDX and KEYIDX; a key frame of 320 x 180.
const VP8_KEY: &[u8] = &[
    0x90, 0xf0, 0x80, 0x01, 0x05, 0x20, 0x10, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00, 1, 2, 3,
    4,
];
/// The next frame.
const VP8_DELTA: &[u8] = &[0x90, 0xf0, 0x80, 0x02, 0x06, 0x60, 0x11, 0x00, 0x00, 5, 6, 7];
/// A VP9 payload with picture id, layers and a scalability structure of one size.
const VP9_KEY: &[u8] =
    &[0xaa, 0x80, 0x01, 0x00, 0x00, 0x18, 0x01, 0x40, 0x00, 0xb4, 0x01, 0x04, 0x01, 0x82, 0x49];
/// An inter frame in flexible mode, with one reference.
const VP9_DELTA: &[u8] = &[0xfc, 0x80, 0x02, 0x42, 0x02, 0x86, 0x00];
/// H264: a STAP-A with SPS (320 x 180) and PPS; the start of an IDR picture as FU-A; a single unit.
const H264_SETS: &[u8] = &[
    0x78, 0x00, 0x0b, 0x67, 0x42, 0xc0, 0x1f, 0xda, 0x05, 0x06, 0xc9, 0xa8, 0x10, 0x10, 0x00, 0x04, 0x68,
    0xce, 0x3c, 0x80,
];
const H264_FU: &[u8] = &[0x7c, 0x85, 0x88, 0x84, 0x00, 0x33];
const H264_SINGLE: &[u8] = &[0x41, 0x9a, 0x24, 0x6c];
/// H265: an aggregation of VPS and SPS, a fragment of an IDR picture.
const H265_SETS: &[u8] = &[
    0x60, 0x01, 0x00, 0x04, 0x40, 0x01, 0x0c, 0x01, 0x00, 0x12, 0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00,
    0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x5d,
];
const H265_FU: &[u8] = &[0x62, 0x01, 0x93, 0xaf, 0x01, 0x02];
/// AV1: a new coded video sequence with a sequence header and the start of a frame.
const AV1_KEY: &[u8] =
    &[0x28, 0x0b, 0x0a, 0x0a, 0x00, 0x00, 0x00, 0x24, 0x4f, 0x7e, 0x7f, 0x00, 0x68, 0x32, 1, 2, 3];
/// Dependency descriptors: one with the structure of L1T2, one that refers to it.
const DESCRIPTOR_STRUCTURE: &[u8] =
    &[0x80, 0x00, 0x01, 0x80, 0x01, 0x1e, 0xa8, 0x51, 0x41, 0x01, 0x0c, 0x13, 0xfc, 0x0b, 0x3c];
const DESCRIPTOR: &[u8] = &[0xc1, 0x00, 0x02];

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (name, bytes) in [
        bridge(),
        stun(),
        rtp(),
        rtcp(),
        srtp(),
        sdp(),
        dtls(),
        data(),
        signaling(),
        tcp(),
        engine(),
        protobuf(),
        turn(),
        first_bytes(),
    ]
    .concat()
    {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("each seed is in its target's folder"))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

type Seeds = Vec<(String, Vec<u8>)>;

fn seed(name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes)
}

/// Records put together.
fn sequence(records: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, bytes) in records {
        records::write(&mut out, *kind, bytes);
    }
    out
}

/// How connections begin that share a port.
fn first_bytes() -> Seeds {
    let request = binding_request("AAAserver:client", "password", 1);
    let framed = [&(request.len() as u16).to_be_bytes()[..], &request].concat();
    vec![
        seed("first_bytes/http", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec()),
        seed("first_bytes/ice", framed),
        seed("first_bytes/tls", vec![22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]),
        seed("first_bytes/turn", request),
    ]
}

/// What clients of messaging say in Protobuf.
fn protobuf() -> Seeds {
    let channel = || "news".to_owned();
    let to = || Some(send::To::Channel(channel()));
    let filters = proto::Filters { allowed_types: vec!["image/*".into()], ..proto::Filters::default() };
    let recover = proto::Position { epoch: "0badcafe".into(), offset: 1 };
    let wish = proto::Subscribe {
        channel: channel(),
        filters: Some(filters),
        recover: Some(recover),
        presence: true,
    };
    let data =
        proto::Send { to: to(), data: r#"{"n": 1}"#.into(), persistent: true, idempotency_key: "k".into() };
    let note = proto::Notify {
        to: Some(notify::To::Channel(channel())),
        title: "Hi".into(),
        ..proto::Notify::default()
    };
    let signal = proto::Signal {
        signal_type: "offer".into(),
        target_peer_id: "conn_0000000000000001".into(),
        sdp: Some("v=0".into()),
        ..proto::Signal::default()
    };
    let history =
        proto::HistoryRequest { channel: channel(), since: Some(0), limit: Some(10), ..Default::default() };
    let act = |action| Message::Action(proto::Action { action: Some(action) });
    let said = [
        Message::Subscribe(wish),
        Message::Send(data),
        Message::Broadcast(proto::Broadcast { data: "[1]".into(), ..proto::Broadcast::default() }),
        Message::Notification(note),
        Message::WebrtcSignal(signal),
        Message::History(history),
        Message::Presence(proto::PresenceRequest { channel: channel() }),
        Message::Ping(proto::Ping {}),
        act(action::Action::Join("tea".into())),
        act(action::Action::Message("Hi".into())),
        Message::Unsubscribe(proto::Unsubscribe { channel: channel() }),
    ];
    let messages = said.map(|message| {
        let message = proto::ClientMessage { id: "1".into(), message: Some(message) };
        message.encode_to_vec()
    });
    let records: Vec<_> = messages.iter().map(|message| (0, message.as_slice())).collect();
    vec![seed("protobuf/session", sequence(&records))]
}

fn stun() -> Seeds {
    let request = |flags| binding_request("server:client", "a password of the seeds", flags);
    let names = ["plain", "nominating", "wrong-role"];
    let mut seeds: Seeds =
        names.iter().zip(0..).map(|(name, flags)| seed(&format!("stun/{name}"), request(flags))).collect();
    seeds.push(seed("stun/unknown-attribute", request(4)));
    seeds
}

fn packet(payload_type: u8, seq: u16, ssrc: u32, extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let header = HeaderWriter {
        marker: seq.is_multiple_of(2),
        payload_type: PayloadType(payload_type),
        seq,
        timestamp: 3000 * u32::from(seq),
        ssrc: Ssrc(ssrc),
    };
    let mut out = Vec::new();
    header.write(extensions, &mut out);
    out.extend_from_slice(payload);
    out
}

/// In the `rtp` target the extensions have the ids of their order.
fn rtp() -> Seeds {
    let plain = |payload: &[u8]| packet(96, 2, 7, &[], payload);
    let described = |descriptor: &[u8], payload: &[u8]| {
        packet(96, 2, 7, &[(1, b"1"), (2, b"q"), (5, &[0, 9]), (8, descriptor), (9, &[0, 0, 1])], payload)
    };
    let audio = packet(111, 1, 6, &[(1, b"0"), (4, &[0x8a]), (6, &[1, 2, 3])], &[0x78, 1, 2, 3]);
    let red = plain(&[0xef, 0x1e, 0, 2, 0xef, 0x0f, 0, 3, 111, 8, 8, 7, 7, 7, 9]);
    let mut padded = plain(VP8_DELTA);
    padded[0] |= 0x20;
    padded.extend([0, 0, 3]);
    vec![
        seed("rtp/opus", sequence(&[(0, &audio), (0, &red)])),
        seed("rtp/vp8", sequence(&[(1, &plain(VP8_KEY)), (1, &plain(VP8_DELTA)), (1, &padded)])),
        seed("rtp/vp9", sequence(&[(2, &plain(VP9_KEY)), (2, &plain(VP9_DELTA))])),
        seed("rtp/h264", sequence(&[(3, &plain(H264_SETS)), (3, &plain(H264_FU)), (3, &plain(H264_SINGLE))])),
        seed("rtp/h265", sequence(&[(4, &plain(H265_SETS)), (4, &plain(H265_FU))])),
        seed("rtp/av1", sequence(&[(5, &plain(AV1_KEY))])),
        seed(
            "rtp/dependencies",
            sequence(&[
                (5, &described(DESCRIPTOR_STRUCTURE, AV1_KEY)),
                (5, &described(DESCRIPTOR, &[0x10, 0x32, 1])),
            ]),
        ),
    ]
}

fn receiver_report(sender: u32, media: u32) -> Vec<u8> {
    let block = ReportBlock {
        ssrc: Ssrc(media),
        fraction_lost: 20,
        cumulative_lost: 3,
        highest_seq: 70_000,
        jitter: 90,
        last_sender_report: 0x0001_0000,
        delay_since_last: 65_536,
    };
    let mut out = Vec::new();
    write_receiver_report(&mut out, Ssrc(sender), &[block]);
    out
}

fn sender_report(ssrc: u32) -> Vec<u8> {
    let info = SenderInfo {
        ssrc: Ssrc(ssrc),
        ntp: 0xdead_beef << 20,
        rtp_timestamp: 9000,
        packets: 30,
        octets: 30_000,
    };
    let mut out = Vec::new();
    write_sender_report(&mut out, &info, &[]);
    write_cname(&mut out, Ssrc(ssrc), "somebody");
    out
}

fn transport_feedback() -> Vec<u8> {
    let mut out = Vec::new();
    let arrivals: Vec<(u16, i64)> =
        (0..40).filter(|i| i % 7 != 0).map(|i| (i, i64::from(i) * 1_500_000)).collect();
    TransportFeedbackBuilder::new(Ssrc(1), Ssrc(2)).write(0, &arrivals, &mut out);
    out
}

fn feedback(sender: u32, media: u32) -> Vec<u8> {
    let (sender, media) = (Ssrc(sender), Ssrc(media));
    let mut out = Vec::new();
    write_nack(&mut out, sender, media, &[1, 2, 5, 19, 40]);
    write_pli(&mut out, sender, media);
    write_fir(&mut out, sender, &[(media, 3)]);
    write_remb(&mut out, sender, 2_500_000, &[media]);
    out
}

fn rtcp() -> Seeds {
    vec![
        seed("rtcp/sender-report", sender_report(7)),
        seed("rtcp/receiver-report", receiver_report(1, 7)),
        seed("rtcp/feedback", feedback(1, 7)),
        seed("rtcp/transport-feedback", transport_feedback()),
    ]
}

fn srtp() -> Seeds {
    let rtp = packet(96, 2, 7, &[(1, b"1")], VP8_KEY);
    let rtcp = feedback(1, 7);
    (0..3)
        .map(|profile| {
            let records: [(u8, &[u8]); 4] =
                [(profile, &rtp), (profile | 4, &rtcp), (profile | 8, &rtp), (profile | 4 | 8, &rtcp)];
            seed(&format!("srtp/profile-{profile}"), sequence(&records))
        })
        .collect()
}

/// The browsers' and aiortc's offers are the core's own test data; this one is short.
fn sdp() -> Seeds {
    let restarted = OFFER.replace("a=ice-ufrag:abcd", "a=ice-ufrag:efgh");
    let fingerprint = ["AB"; 32].join(":");
    let both = format!("{OFFER}\n-----\n{restarted}").replace("FINGERPRINT", &fingerprint);
    vec![seed("sdp/restart", both.into_bytes())]
}

fn dtls() -> Seeds {
    let untouched: (u8, &[u8]) = (1, &[]);
    let data: (u8, &[u8]) = (5, b"application data");
    let time: (u8, &[u8]) = (4, &[1, 0]);
    vec![
        seed(
            "dtls/handshake",
            sequence(&[untouched, untouched, untouched, untouched, untouched, data, untouched]),
        ),
        seed(
            "dtls/repeated",
            sequence(&[(2, &[]), untouched, (2, &[]), untouched, (2, &[]), untouched, untouched]),
        ),
        seed("dtls/lost", sequence(&[(3, &[]), time, untouched, untouched, (3, &[]), time, time, untouched])),
        seed(
            "dtls/changed",
            sequence(&[untouched, (2, &[0, 20, 1]), (2, &[0, 60, 255]), untouched, untouched]),
        ),
        seed("dtls/alert", sequence(&[(0, &[21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40])])),
    ]
}

fn data() -> Seeds {
    let open = |label: &str| {
        let open = Open {
            ordered: false,
            reliability: Reliability::Retransmissions(2),
            priority: 256,
            label: label.into(),
            protocol: "p".into(),
        };
        DcepMessage::Open(open).write()
    };
    let message = |stream, ppid, bytes: &[u8]| [&[stream, ppid], bytes].concat();
    let frame = |peer, payload: &[u8]| Frame { flags: 2, peer, payload }.write();
    let large = frame("", &[7; 3000]);
    vec![
        seed("data/open", open("files")),
        seed("data/frame", frame("peer2", b"hello")),
        seed(
            "data/talk",
            sequence(&[
                (1, &message(0, 1, &frame("", b"to all"))),
                (1, &message(0, 1, &frame("peer2", b"to one"))),
                (1, &message(2, 1, &frame("nobody", b"to none"))),
                (1, &message(4, 0, &open("files"))),
                (1, &message(4, 1, &large)),
                (4, &[4]),
                (3, &[0, 200]),
            ]),
        ),
        seed("data/changed", sequence(&[(2, &[0, 12, 1]), (2, &[0, 13, 2, 0, 15, 9]), (3, &[4, 0])])),
        // A DATA chunk, a SACK, a FORWARD-TSN, a HEARTBEAT, an INIT and an ABORT behind the common header.
        seed(
            "data/raw",
            sequence(&[
                (
                    0,
                    &[
                        19, 136, 19, 136, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,
                        0, 53, 0, 0,
                    ],
                ),
                (
                    0,
                    &[
                        19, 136, 19, 136, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 16, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0,
                        0, 0,
                    ],
                ),
                (0, &[19, 136, 19, 136, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 0, 12, 0, 0, 0, 9, 0, 0, 0, 1]),
                (0, &[19, 136, 19, 136, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 12, 0, 1, 0, 8, 1, 2, 3, 4]),
                (0, &[19, 136, 19, 136, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 4]),
            ]),
        ),
    ]
}

fn signaling() -> Seeds {
    let text = |name: &str, lines: &[&str]| seed(&format!("signaling/{name}"), lines.join("\n").into_bytes());
    vec![
        text(
            "server",
            &[
                r#"{"signal_type":"offer","id":1,"sdp":"v=0\r\n","tracks":[{"mid":"0","source":"screen","muted":false}],"pairs":[{"audio":"2","video":"3"}]}"#,
                r#"{"signal_type":"ping","id":7}"#,
                r#"{"signal_type":"subscribe","mode":"auto","pinned":["boris"],"slots":[{"mid":"3","track_id":"TR1","width":1280,"height":720},{"mid":"5","width":1,"height":2}]}"#,
                r#"{"signal_type":"update","name":"Anna","metadata":{"hand":"raised"}}"#,
                r#"{"signal_type":"mute","track_id":"TR12","muted":true}"#,
                r#"{"signal_type":"ice-candidate","ice_candidate":{"candidate":"candidate:1","sdpMid":"0"}}"#,
                r#"{"signal_type":"leave"}"#,
            ],
        ),
        text(
            "peers",
            &[
                r#"{"signal_type":"offer","target_peer_id":"boris","room_id":"room","sdp":"v=0\r\n"}"#,
                r#"{"signal_type":"answer","target_peer_id":"anna","from_peer_id":"carl","sdp":"v=0\r\n"}"#,
                r#"{"signal_type":"ice-candidate","target_peer_id":"nobody","ice_candidate":null}"#,
            ],
        ),
    ]
}

fn tcp() -> Seeds {
    let framed = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let request = framed(&binding_request("server:client", "a password of the seeds", 0));
    let (start, end) = request.split_at(30);
    let two = [framed(&[1; 20]), framed(&[]), framed(&[2; 1200])].concat();
    vec![
        seed("tcp/pieces", sequence(&[(0, start), (0, end), (0, &two)])),
        seed("tcp/oversized", sequence(&[(0, &two), (0, &[0xff, 0xff, 1, 2, 3])])),
    ]
}

/// What TURN clients say, in packets and in a stream.
fn turn() -> Seeds {
    let attribute = |kind: u16, value: &[u8]| {
        let mut out = [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat();
        out.resize(out.len().next_multiple_of(4), 0);
        out
    };
    let signed = |kind: u16, attributes: &[Vec<u8>]| [&kind.to_be_bytes()[..], &attributes.concat()].concat();
    let message = |kind, data: Option<&[u8]>| {
        let mut out = Vec::new();
        let mut writer = Writer::begin(kind, &[0; 12], &mut out);
        writer.xor_address(0x0012, turn::PEER);
        if let Some(data) = data {
            writer.attribute(0x0013, data);
        }
        out
    };
    let peer = message(1, None)[20..].to_vec();
    let (udp, channel) = (attribute(0x0019, &[17, 0, 0, 0]), attribute(0x000c, &[0x40, 1, 0, 0]));
    let (both, v6) = (attribute(0x8000, &[2, 0, 0, 0]), attribute(0x0017, &[2, 0, 0, 0]));
    let (even, token) = (attribute(0x0018, &[0x80]), attribute(0x0022, &[5; 8]));
    let (none, whole) = (attribute(0x000d, &[0; 4]), attribute(0x001a, &[]));
    let allocate = |more: &[Vec<u8>]| signed(0x0003, &[std::slice::from_ref(&udp), more].concat());
    let (packet, request, data, time) =
        (turn::kind::PACKET, turn::kind::SIGNED, turn::kind::PEER, turn::kind::TIME);
    let (hello, first) = (allocate(&[]), message(0x0003, None));
    let send = message(0x0016, Some(b"hello"));
    let framed = b"\x40\x01\x00\x05hello\0\0\0";
    let life = sequence(&[
        (packet, &first),
        (request, &hello),
        (request, &signed(0x0008, std::slice::from_ref(&peer))),
        (packet, &send),
        (data, b"by indication"),
        (request, &signed(0x0009, &[channel.clone(), peer.clone()])),
        (packet, framed),
        (data, b"by channel"),
        (turn::kind::ICMP, &[3, 4]),
        (time, &[200]),
        (request, &signed(0x0004, &[])),
        (time, &[255, 255]),
        (request, &signed(0x0004, &[none])),
    ]);
    let two = sequence(&[
        (packet, &first),
        (request, &allocate(&[both])),
        (request, &signed(0x0004, &[v6])),
        (time, &[255; 4]),
    ]);
    let ports = sequence(&[
        (packet, &first),
        (request, &allocate(&[even, whole])),
        (time, &[255; 4]),
        (request, &allocate(&[token])),
    ]);
    let stream = [&send[..], framed, &message(1, None)].concat();
    let (start, end) = stream.split_at(50);
    vec![
        seed("turn/life", life),
        seed("turn/two", two),
        seed("turn/ports", ports),
        seed("turn_stream/pieces", sequence(&[(0, start), (0, &end[..5]), (0, &end[5..])])),
        seed("turn_stream/oversized", sequence(&[(0, &stream), (0, &[0, 1, 0xff, 0xfc]), (0, &[1; 9])])),
    ]
}

/// In the engine's offer the extensions have the ids of its `a=extmap` lines.
fn engine() -> Seeds {
    let audio: Vec<_> =
        (0..4).map(|i| packet(111, i, 1111, &[(1, &[0x8a]), (4, b"0")], &[0x78, 1, 2, 3])).collect();
    let video = |seq, rid: &[u8], payload: &[u8]| {
        packet(96, seq, 2000 + u32::from(rid[0]), &[(3, &[0, seq as u8]), (4, b"1"), (5, rid)], payload)
    };
    let repair = packet(97, 1, 3000, &[(4, b"1"), (6, b"q")], &[&[0, 3], VP8_DELTA].concat());
    let q: Vec<_> =
        [1, 2, 4, 5].map(|seq| video(seq, b"q", if seq == 1 { VP8_KEY } else { VP8_DELTA })).into();
    let start: (u8, &[u8]) = (kind::OFFER, OFFER.as_bytes());
    let connect: (u8, &[u8]) = (kind::CONNECT, &[]);
    let time: (u8, &[u8]) = (kind::TIME, &[0, 100]);
    let mut call = vec![(kind::VIEWER, &[][..]), start, connect];
    call.extend(audio.iter().map(|packet| (kind::RTP, &packet[..])));
    call.extend(q.iter().map(|packet| (kind::RTP, &packet[..])));
    let (report, wants) = (sender_report(2113), [receiver_report(1, 9), feedback(1, 9)].concat());
    let large = video(1, b"f", VP8_KEY);
    call.extend([
        time,
        (kind::RTP, &repair[..]),
        (kind::RTCP, &report[..]),
        (kind::RTP, &large[..]),
        time,
        (kind::VIEWER_RTCP, &wants[..]),
        (kind::COMMAND, &[0, 1, 1, 1][..]),
        (kind::COMMAND, &[1, 2, 1, 3]),
        (kind::COMMAND, &[2, 1, 0, 0]),
        time,
    ]);
    let sctp: &[u8] = &[
        19, 136, 19, 136, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 9, 0, 0, 0, 5,
    ];
    let tcp = kind::TCP;
    vec![
        seed("engine/call", sequence(&call)),
        seed(
            "engine/paths",
            sequence(&[
                start,
                (kind::STUN, &[0]),
                (kind::STUN | tcp, &[1]),
                (kind::STUN | kind::OTHER_PATH, &[5]),
                connect,
                (kind::DISCONNECT | tcp, &[]),
                (kind::STUN | tcp | kind::OTHER_PATH, &[1]),
                (kind::DATA, sctp),
                (kind::TIME, &[0xff, 0xff]),
                (kind::COMMAND, &[3, 1, 0, 0]),
                (kind::COMMAND, &[4, 1, 0, 0]),
                start,
            ]),
        ),
        seed(
            "engine/raw",
            sequence(&[
                start,
                (kind::STUN, &[1]),
                (kind::DATAGRAM, &q[0]),
                (kind::DATAGRAM, &wants),
                (kind::DATAGRAM | kind::OTHER_PATH, &q[0]),
                (kind::DATAGRAM, &binding_request("server:client", "guess", 1)),
                (kind::DATAGRAM, &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]),
            ]),
        ),
    ]
}

/// In the packets of mirrors, too, the extensions have the ids of the offer's `a=extmap` lines.
fn bridge() -> Seeds {
    use bridge::kind::{PACKET, RECORD, REPAIR, TIME};
    let of = |track, layer, generation, packet: Vec<u8>| [&[track, layer, generation][..], &packet].concat();
    let voice =
        |seq, generation| of(0, 0, generation, packet(111, seq, 1111, &[(1, &[0x8a])], &[0x78, 1, 2, 3]));
    let picture = |seq, payload: &[u8]| of(1, 1, 0, packet(96, seq, 2113, &[(7, &[1])], payload));
    let (key, delta) = (picture(1, VP8_KEY), [2, 3, 5].map(|seq| picture(seq, VP8_DELTA)));
    let repair = picture(4, VP8_DELTA);
    let stream = StreamId { track: bridge::TRACKS[1], layer: 2, generation: 0 };
    let report = BridgeReport { stream, arrived: 1 << 30, ntp: 1 << 40, rtp_timestamp: 9_000 };
    let mut reported = Vec::new();
    report.write(&mut reported);
    let mut raw = Vec::new();
    let of_it = packet(96, 7, 2200, &[(8, DESCRIPTOR_STRUCTURE)], VP8_KEY);
    BridgePacket { stream, repaired: true, arrived: -1, packet: &of_it }.write(PayloadType(96), 7, &mut raw);
    let time: (u8, &[u8]) = (TIME, &[0, 100]);
    vec![
        seed(
            "bridge/pictures",
            sequence(&[
                (PACKET, &key),
                (PACKET, &delta[0]),
                (PACKET, &delta[1]),
                (PACKET, &delta[2]),
                time,
                (REPAIR, &repair),
                (PACKET, &delta[2]),
                time,
                (RECORD, &reported),
            ]),
        ),
        // The stream begins anew, and something of before comes late.
        seed(
            "bridge/anew",
            sequence(&[
                (PACKET, &voice(1, 0)),
                (PACKET, &voice(2, 0)),
                time,
                (PACKET, &voice(900, 1)),
                (PACKET, &voice(3, 0)),
            ]),
        ),
        seed(
            "bridge/records",
            sequence(&[(RECORD, &reported), (RECORD, &raw), (TIME, &[4, 0]), (RECORD, &raw[..30])]),
        ),
    ]
}
