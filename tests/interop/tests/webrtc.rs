//! Two clients of the `webrtc` crate in a call through the server: every packet of one comes out of the other's slots,
//! in order, without a gap and as it was sent.

use std::time::Duration;

use rtc::rtp;
use tokio::time::{MissedTickBehavior, interval};
use veche_interop::media::{PACKETS_PER_PICTURE, Read, audio, read_audio, read_video, video};
use veche_interop::peer::Peer;
use veche_interop::server::Server;
use webrtc::media_stream::track_local::TrackLocal;

/// How many packets of each kind must come: two seconds.
const PACKETS: usize = 100;

#[tokio::test]
async fn packets_of_one_client_come_out_of_the_slots_of_the_other() {
    let server = Server::start().await;
    let mut anna = Peer::join(server.address, "webrtc", "anna", 1000).await;
    let mut boris = Peer::join(server.address, "webrtc", "boris", 2000).await;
    anna.ready().await;
    boris.ready().await;
    publish(&anna);
    publish(&boris);
    for (peer, other) in [(&mut anna, "boris"), (&mut boris, "anna")] {
        peer.until("packets of both kinds", |peer| {
            ["audio", "video"].iter().all(|kind| peer.slot_packets(kind).len() >= PACKETS)
        })
        .await;
        for kind in ["audio", "video"] {
            assert_eq!(peer.slots[&peer.slot(kind).0]["peer_id"], other, "signaling tells who it is");
        }
        check_audio(peer.slot_packets("audio"));
        check_video(peer.slot_packets("video"));
        assert_eq!(peer.packets.len(), 2, "no stream comes but those of the slots");
    }
    assert_eq!(server.sfu.failures.len(), 0);
    anna.leave().await;
    boris.leave().await;
}

#[tokio::test]
async fn messages_are_relayed_with_the_name_of_their_sender() {
    let server = Server::start().await;
    let mut anna = Peer::join(server.address, "data", "anna", 1000).await;
    let mut boris = Peer::join(server.address, "data", "boris", 2000).await;
    anna.ready().await;
    boris.ready().await;
    // Flags, the length of the receiver's name, the name, the payload; first to all, then to one.
    anna.send(b"\x02\x00hello, all").await;
    boris.until("a message to all", |peer| peer.messages == [b"\x02\x04annahello, all"]).await;
    let large: Vec<u8> = (0..50_000_u32).map(|at| (at * 7) as u8).collect();
    boris.send(&[b"\x00\x04anna", &large[..]].concat()).await;
    let expected = [b"\x00\x05boris", &large[..]].concat();
    anna.until("a large message to one", |peer| peer.messages == [&expected[..]]).await;
    anna.leave().await;
    boris.leave().await;
}

/// Sends sound and pictures from now on.
fn publish(peer: &Peer) {
    let [(microphone, audio_ssrc), (camera, video_ssrc)] = peer.tracks.clone();
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_millis(20));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0.. {
            ticks.tick().await;
            if microphone.write_rtp(audio(number, audio_ssrc)).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_nanos(1_000_000_000 / 30));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0.. {
            if number % PACKETS_PER_PICTURE == 0 {
                ticks.tick().await;
            }
            if camera.write_rtp(video(number, video_ssrc)).await.is_err() {
                return;
            }
        }
    });
}

fn check_audio(packets: &[rtp::Packet]) {
    let read: Vec<Read> =
        packets.iter().map(|packet| read_audio(&packet.payload).expect("as it was sent")).collect();
    for (pair, packets) in read.windows(2).zip(packets.windows(2)) {
        assert_eq!(pair[1].number, pair[0].number + 1, "no packet is missing");
        assert_eq!(packets[1].header.timestamp.wrapping_sub(packets[0].header.timestamp), 960);
        assert_eq!(packets[1].header.sequence_number.wrapping_sub(packets[0].header.sequence_number), 1);
    }
}

fn check_video(packets: &[rtp::Packet]) {
    let read: Vec<Read> =
        packets.iter().map(|packet| read_video(&packet.payload).expect("as it was sent")).collect();
    assert!(read[0].key_frame, "the first packet starts a key frame");
    for (pair, packets) in read.windows(2).zip(packets.windows(2)) {
        assert_eq!(pair[1].number, pair[0].number + 1, "no packet is missing");
        let [before, after] = [&packets[0].header, &packets[1].header];
        assert_eq!(after.sequence_number.wrapping_sub(before.sequence_number), 1);
        let next = u16::from(pair[1].number.is_multiple_of(PACKETS_PER_PICTURE));
        assert_eq!(after.marker, next == 0, "the marker is on the last packet of a picture");
        assert_eq!(after.timestamp.wrapping_sub(before.timestamp), 3000 * u32::from(next));
        let ids = pair[1].picture_id.zip(pair[0].picture_id).expect("pictures are numbered");
        assert_eq!(ids.0.wrapping_sub(ids.1) & 0x7fff, next, "pictures are numbered without a gap");
    }
}
