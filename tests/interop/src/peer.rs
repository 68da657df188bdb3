//! One client: signaling over a WebSocket, and a peer connection of the `webrtc` crate.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine};
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, register_default_interceptors,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use crate::media::{OPUS, VP8};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the peer connection reports.
#[derive(Debug)]
pub enum Happened {
    /// All candidates are known.
    Gathered,
    /// ICE and DTLS are done.
    Connected,
    /// An RTP packet came.
    Rtp(rtp::Packet),
    /// The data channel is open.
    ChannelOpen,
    /// A message came over the data channel.
    Message(Vec<u8>),
}

/// One client.
pub struct Peer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    connection: Box<dyn PeerConnection>,
    happened: mpsc::UnboundedReceiver<Happened>,
    channel: Arc<dyn DataChannel>,
    /// The tracks to send on: sound and picture, with their SSRCs.
    pub tracks: [(Arc<TrackLocalStaticRTP>, u32); 2],
    /// The server's last answer.
    pub answer: String,
    /// What the slots carry, by mid, as the server told last.
    pub slots: HashMap<String, Value>,
    /// Packets that came, by SSRC.
    pub packets: HashMap<u32, Vec<rtp::Packet>>,
    /// Messages that came over the data channel.
    pub messages: Vec<Vec<u8>>,
    connected: bool,
    channel_open: bool,
}

struct Handler(mpsc::UnboundedSender<Happened>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.0.send(Happened::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            let _ = self.0.send(Happened::Connected);
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let sender = self.0.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    let _ = sender.send(Happened::Rtp(packet));
                }
            }
        });
    }
}

impl Peer {
    /// Joins a room: a microphone and a camera to send, a slot for each, and a data channel `chat`. `ssrc` is that of
    /// the microphone, the next that of the camera.
    pub async fn join(server: SocketAddr, room: &str, name: &str, ssrc: u32) -> Self {
        let url = format!("ws://{server}/realtime/webrtc/signaling?room_id={room}&peer_id={name}");
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("the WebSocket opens");
        let (sender, happened) = mpsc::unbounded_channel();
        let connection = connection(Handler(sender.clone())).await;
        let tracks = [
            (track("microphone", RtpCodecKind::Audio, opus(), ssrc), ssrc),
            (track("camera", RtpCodecKind::Video, vp8(), ssrc + 1), ssrc + 1),
        ];
        for (track, _) in &tracks {
            let init = direction(RTCRtpTransceiverDirection::Sendonly);
            let track = Arc::clone(track) as Arc<dyn TrackLocal>;
            connection.add_transceiver_from_track(track, Some(init)).await.expect("a track can be sent");
        }
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            let init = direction(RTCRtpTransceiverDirection::Recvonly);
            connection.add_transceiver_from_kind(kind, Some(init)).await.expect("a track can be received");
        }
        let channel = connection.create_data_channel("chat", None).await.expect("there are data channels");
        tokio::spawn(watch_channel(channel.clone(), sender));
        let mut peer = Self {
            socket,
            connection: Box::new(connection),
            happened,
            channel,
            tracks,
            answer: String::new(),
            slots: HashMap::new(),
            packets: HashMap::new(),
            messages: Vec::new(),
            connected: false,
            channel_open: false,
        };
        peer.negotiate().await;
        peer
    }

    /// Takes what comes until `done` says so. Panics, with what is known, when that takes too long.
    pub async fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let step = async {
                tokio::select! {
                    message = self.socket.next() => Step::Signal(message),
                    happened = self.happened.recv() => Step::Happened(happened),
                }
            };
            match timeout_at(deadline, step).await {
                Ok(Step::Signal(Some(Ok(Message::Text(text))))) => {
                    self.on_signal(&serde_json::from_str(&text).expect("signaling is JSON"));
                }
                Ok(Step::Signal(Some(Ok(_)))) => {}
                Ok(Step::Happened(Some(happened))) => self.on_happened(happened),
                Ok(_) => panic!("{what}: the connection ended"),
                Err(late) => panic!("{what}: {late}. {}", self.report()),
            }
        }
    }

    /// Both connections are up, and so is the data channel.
    pub async fn ready(&mut self) {
        self.until("the connection", |peer| peer.connected && peer.channel_open).await;
    }

    /// Sends bytes over the data channel as they are.
    pub async fn send(&self, bytes: &[u8]) {
        self.channel.send(BytesMut::from(bytes)).await.expect("the channel is open");
    }

    /// The packets of the slot of this kind: those with the SSRC that the answer names.
    pub fn slot_packets(&self, kind: &str) -> &[rtp::Packet] {
        self.packets.get(&self.slot(kind).1).map_or(&[], Vec::as_slice)
    }

    /// The mid and the SSRC of the slot of this kind, as the answer says.
    pub fn slot(&self, kind: &str) -> (String, u32) {
        let section = self.answer.split("\r\nm=").find(|s| s.starts_with(kind) && s.contains("a=sendonly"));
        let section = section.expect("the answer has the slot");
        let value = |prefix| section.lines().find_map(|line| line.strip_prefix(prefix)).expect("it is named");
        let ssrc = value("a=ssrc:").split(' ').next().and_then(|ssrc| ssrc.parse().ok());
        (value("a=mid:").to_owned(), ssrc.expect("an SSRC is a number"))
    }

    /// Leaves the room and closes everything.
    pub async fn leave(mut self) {
        self.signal(json!({ "signal_type": "leave" })).await;
        self.connection.close().await.expect("it closes");
    }

    async fn negotiate(&mut self) {
        let offer = self.connection.create_offer(None).await.expect("an offer can be made");
        self.connection.set_local_description(offer).await.expect("the offer is good");
        loop {
            match self.happened.recv().await {
                Some(Happened::Gathered) => break,
                Some(_) => {}
                None => panic!("the peer connection is gone"),
            }
        }
        let offer = self.connection.local_description().await.expect("there is an offer");
        self.signal(json!({ "signal_type": "offer", "id": 1, "sdp": offer.sdp })).await;
        self.until("the answer", |peer| !peer.answer.is_empty()).await;
        let answer = RTCSessionDescription::answer(self.answer.clone()).expect("the answer parses");
        self.connection.set_remote_description(answer).await.expect("the answer is good");
    }

    async fn signal(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("the WebSocket is open");
    }

    fn on_signal(&mut self, message: &Value) {
        match message["signal_type"].as_str().unwrap_or_default() {
            "answer" => message["sdp"].as_str().unwrap_or_default().clone_into(&mut self.answer),
            "slots" => {
                for slot in message["slots"].as_array().expect("slots are a list") {
                    self.slots.insert(slot["mid"].as_str().unwrap_or_default().to_owned(), slot.clone());
                }
            }
            "error" => panic!("the server says {message}"),
            _ => {}
        }
    }

    fn on_happened(&mut self, happened: Happened) {
        match happened {
            Happened::Gathered => {}
            Happened::Connected => self.connected = true,
            Happened::Rtp(packet) => self.packets.entry(packet.header.ssrc).or_default().push(packet),
            Happened::ChannelOpen => self.channel_open = true,
            Happened::Message(bytes) => self.messages.push(bytes),
        }
    }

    fn report(&self) -> String {
        let packets: Vec<_> = self.packets.iter().map(|(ssrc, packets)| (ssrc, packets.len())).collect();
        format!(
            "connected: {}, channel open: {}, slots: {:?}, packets: {packets:?}, messages: {}",
            self.connected,
            self.channel_open,
            self.slots,
            self.messages.len()
        )
    }
}

enum Step {
    Signal(Option<Result<Message, tokio_tungstenite::tungstenite::Error>>),
    Happened(Option<Happened>),
}

async fn watch_channel(channel: Arc<dyn DataChannel>, sender: mpsc::UnboundedSender<Happened>) {
    while let Some(event) = channel.poll().await {
        let happened = match event {
            DataChannelEvent::OnOpen => Happened::ChannelOpen,
            DataChannelEvent::OnMessage(message) => Happened::Message(message.data.to_vec()),
            _ => continue,
        };
        let _ = sender.send(happened);
    }
}

async fn connection(handler: Handler) -> impl PeerConnection {
    let mut media = MediaEngine::default();
    for (codec, payload_type, kind) in
        [(opus(), OPUS, RtpCodecKind::Audio), (vp8(), VP8, RtpCodecKind::Video)]
    {
        let codec = RTCRtpCodecParameters { rtp_codec: codec, payload_type };
        media.register_codec(codec, kind).expect("the codec is known");
    }
    let registry = register_default_interceptors(Registry::new(), &mut media).expect("they are the defaults");
    let builder = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(handler))
        .with_udp_addrs(vec!["127.0.0.1:0"]);
    // Its future is too large for a stack.
    Box::pin(builder.build()).await.expect("a peer connection can be made")
}

fn track(name: &str, kind: RtpCodecKind, codec: RTCRtpCodec, ssrc: u32) -> Arc<TrackLocalStaticRTP> {
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
        codec,
        ..Default::default()
    };
    let track = MediaStreamTrack::new("stream".into(), name.into(), name.into(), kind, vec![coding]);
    Arc::new(TrackLocalStaticRTP::new(track))
}

fn direction(direction: RTCRtpTransceiverDirection) -> RTCRtpTransceiverInit {
    RTCRtpTransceiverInit { direction, streams: Vec::new(), send_encodings: Vec::new() }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: Vec::new(),
    }
}

fn vp8() -> RTCRtpCodec {
    RTCRtpCodec { mime_type: MIME_TYPE_VP8.to_owned(), clock_rate: 90_000, ..Default::default() }
}
