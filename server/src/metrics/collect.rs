//! The counters of the parts, as Prometheus has them.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use veche_cameras::{Cameras, REFUSALS, ViewerKind};
use veche_files::Files;
use veche_messaging::Messaging;
use veche_recorder::Recorder;
use veche_sfu::{Handle, WorkerMetrics};
use veche_signaling::Signaling;
use veche_storage::Database;

use crate::gate::Gate;
use crate::parts::{Calls, Parts};
use crate::tally::Tally;
use crate::webhooks::Couriers;

/// All of them.
pub(super) fn register(registry: &mut Registry, parts: &Parts, gate: &Gate, tally: &Tally) {
    registry.register_collector(Box::new(Connections(gate.clone(), tally.clone())));
    registry.register_collector(Box::new(Channels(parts.messaging.clone())));
    if let Some(files) = &parts.files {
        registry.register_collector(Box::new(Contents(files.clone())));
    }
    registry.register_collector(Box::new(Storage(parts.database.clone())));
    registry.register_collector(Box::new(Webhooks(parts.webhooks.clone())));
    if let Some(turn) = &parts.turn {
        registry.register_collector(Box::new(Relays(turn.handle.clone())));
    }
    if let Some(Calls { sfu, signaling, cameras, recorder }) = &parts.calls {
        if let Some(recorder) = recorder {
            registry.register_collector(Box::new(Recordings(recorder.clone())));
        }
        if let Some(cameras) = cameras {
            registry.register_collector(Box::new(Pictures(cameras.clone())));
        }
        registry.register_collector(Box::new(Media(sfu.handle.clone())));
        registry.register_collector(Box::new(Rooms(signaling.clone())));
    }
}

/// TCP connections to the HTTP listeners.
#[derive(Debug)]
struct Connections(Gate, Tally);

impl Collector for Connections {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Connections of HTTP and HTTPS now, WebSockets and idle ones too";
        gauge(&mut out, "http_connections", help, self.0.open() as u64)?;
        let help = "Connections refused because of http.max_connections";
        counter(&mut out, "http_connections_refused", help, self.1.refused())
    }
}

/// The media workers.
#[derive(Debug)]
struct Media(Handle);

impl Collector for Media {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let workers = self.0.metrics();
        let out = &mut out;
        let mut gauges = |name, help, value: fn(&WorkerMetrics) -> u64| {
            let values = workers.iter().map(|worker| (worker.worker.to_string(), value(worker)));
            labelled(out, MetricType::Gauge, name, help, "worker", values)
        };
        gauges("media_worker_running", "1 while the worker runs", |worker| u64::from(worker.running))?;
        gauges("media_participants", "Participants now", |worker| worker.participants as u64)?;
        gauges("media_tcp_connections", "Media connections over TCP now", |worker| {
            worker.connections as u64
        })?;

        let mut counters = |name, help, value: fn(&WorkerMetrics) -> u64| {
            let values = workers.iter().map(|worker| (worker.worker.to_string(), value(worker)));
            labelled(out, MetricType::Counter, name, help, "worker", values)
        };
        counters("media_packets_received", "Packets received", |worker| worker.traffic.packets_in)?;
        counters("media_bytes_received", "Bytes of packets received", |worker| worker.traffic.bytes_in)?;
        counters("media_packets_sent", "Packets sent", |worker| worker.traffic.packets_out)?;
        counters("media_bytes_sent", "Bytes of packets sent", |worker| worker.traffic.bytes_out)?;
        counters("media_sends", "Calls of the system that sent packets", |worker| worker.traffic.sends_out)?;
        counters("media_trains", "Those with more than one packet", |worker| worker.traffic.trains_out)?;
        let help = "Packets that the system refused to send";
        counters("media_send_errors", help, |worker| worker.traffic.send_errors)?;
        let help = "Packets dropped because a send buffer was full";
        counters("media_send_drops", help, |worker| worker.traffic.send_drops)?;
        let help = "Packets taken from relays of this server, and given to them, without a socket";
        counters("media_packets_handed", help, |worker| {
            worker.handed.packets_in + worker.handed.packets_out
        })?;
        let help = "Packets dropped because the relay's worker did not keep up, or had ended";
        counters("media_handed_drops", help, |worker| worker.handed.drops)?;

        let mut refusals = BTreeMap::<&str, u64>::new();
        for (reason, count) in workers.iter().flat_map(|worker| worker.tcp_refusals.iter()) {
            *refusals.entry(reason).or_default() += count;
        }
        let help = "Media connections over TCP that were refused or closed, by reason";
        labelled(out, MetricType::Counter, "media_tcp_refusals", help, "reason", refusals)?;

        let mut drops = BTreeMap::<&str, u64>::new();
        for (reason, count) in workers.iter().flat_map(|worker| worker.drops.iter()) {
            *drops.entry(reason.name()).or_default() += count;
        }
        let help = "Packets dropped, by reason";
        labelled(out, MetricType::Counter, "media_drops", help, "reason", drops)
    }
}

/// STUN and TURN. By user it is told over HTTP, since there is no end to users.
#[derive(Debug)]
struct Relays(veche_turn::Handle);

impl Collector for Relays {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut out;
        let workers = self.0.metrics();
        let total = self.0.total();
        gauge(out, "turn_allocations", "Allocations now", total.allocations.into())?;
        gauge(out, "turn_permissions", "Permissions now", total.permissions.into())?;
        gauge(out, "turn_channels", "Channels now", total.channels.into())?;
        gauge(out, "turn_users", "Users who have allocations now", self.0.user_count() as u64)?;
        let sum = |value: fn(&veche_turn::WorkerMetrics) -> u64| workers.iter().map(value).sum();
        let running = sum(|worker| worker.running.into());
        gauge(out, "turn_workers_running", "Workers that run", running)?;
        gauge(
            out,
            "turn_connections",
            "Connections of TCP and TLS now",
            sum(|worker| worker.connections as u64),
        )?;
        let help = "TCP connections between relays and peers now";
        gauge(out, "turn_peer_connections", help, sum(|worker| worker.peer_connections as u64))?;
        let help = "Connections refused, for there were too many";
        counter(out, "turn_connections_refused", help, sum(|worker| worker.connections_refused))?;
        let made = sum(|worker| worker.totals.allocations_made);
        counter(out, "turn_allocations_made", "Allocations made", made)?;
        counter(out, "turn_bindings", "Binding requests answered", sum(|worker| worker.totals.bindings))?;
        let ways = [("peers", total.packets_to_peers), ("clients", total.packets_to_clients)];
        labelled(
            out,
            MetricType::Counter,
            "turn_packets_relayed",
            "Packets relayed, by to whom",
            "to",
            ways,
        )?;
        let ways = [("peers", total.bytes_to_peers), ("clients", total.bytes_to_clients)];
        labelled(out, MetricType::Counter, "turn_bytes_relayed", "Bytes of their data", "to", ways)?;
        let ways =
            [("peers", sum(|one| one.handed.packets_out)), ("clients", sum(|one| one.handed.packets_in))];
        let help = "Packets between relays and media of this server, without a socket, by to whom";
        labelled(out, MetricType::Counter, "turn_packets_handed", help, "to", ways)?;
        let help = "Packets dropped because the media worker did not keep up, or had ended";
        counter(out, "turn_handed_drops", help, sum(|worker| worker.handed.drops))?;
        let help = "Packets that the system refused to send";
        counter(out, "turn_send_errors", help, sum(|worker| worker.traffic.send_errors))?;
        let help = "Packets dropped because a send buffer was full";
        counter(out, "turn_send_drops", help, sum(|worker| worker.traffic.send_drops))?;
        let mut refusals = BTreeMap::<&str, u64>::new();
        for (reason, count) in workers.iter().flat_map(|worker| worker.refusals.iter()) {
            *refusals.entry(reason.name()).or_default() += count;
        }
        labelled(out, MetricType::Counter, "turn_refusals", "What was refused, by reason", "reason", refusals)
    }
}

/// Rooms and who is in them.
#[derive(Debug)]
struct Rooms(Signaling);

impl Collector for Rooms {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.counts();
        gauge(&mut out, "rooms", "Rooms now", counts.rooms as u64)?;
        let help = "Participants now, also those whose connection is lost";
        gauge(&mut out, "participants", help, counts.participants as u64)?;
        gauge(&mut out, "signaling_connections", "Signaling connections now", counts.connections as u64)
    }
}

/// Recordings of rooms.
#[derive(Debug)]
struct Recordings(Recorder);

impl Collector for Recordings {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.0.totals();
        gauge(&mut out, "recordings_running", "Recordings that run now", self.0.count() as u64)?;
        counter(&mut out, "recordings_started", "Recordings that have begun", totals.started)?;
        let help = "Recordings that a full or broken disk has ended";
        counter(&mut out, "recordings_failed", help, totals.failed)?;
        counter(&mut out, "recordings_bytes", "Bytes of recordings that have ended", totals.bytes)
    }
}

/// Cameras that send pictures.
struct Pictures(Cameras);

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pictures").field(&self.0.counters()).finish()
    }
}

impl Collector for Pictures {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut out;
        let counters = self.0.counters();
        gauge(out, "cameras", "Cameras that send pictures now", counters.cameras)?;
        let viewers = ViewerKind::ALL.map(ViewerKind::name).into_iter().zip(counters.viewers);
        let help = "Who looks at cameras now, by door";
        labelled(out, MetricType::Gauge, "camera_viewers", help, "door", viewers)?;
        counter(out, "camera_frames_received", "Frames taken from cameras", counters.frames_in)?;
        counter(out, "camera_bytes_received", "Bytes of frames taken", counters.bytes_in)?;
        counter(out, "camera_frames_sent", "Frames sent to viewers", counters.frames_out)?;
        counter(out, "camera_bytes_sent", "Bytes of frames sent", counters.bytes_out)?;
        let help = "Frames that viewers were not sent, since they were slow or wanted fewer";
        counter(out, "camera_frames_skipped", help, counters.frames_skipped)?;
        let refused = REFUSALS.into_iter().zip(counters.refused);
        let help = "Frames that were not taken, by reason";
        labelled(out, MetricType::Counter, "camera_frames_refused", help, "reason", refused)
    }
}

/// Channels, and the doors to them.
struct Channels(Messaging);

impl Collector for Channels {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut out;
        let hub = self.0.hub().stats();
        let doors = [("websocket", hub.websocket), ("sse", hub.sse), ("grpc", hub.grpc)];
        let doors = doors.map(|(door, count)| (door, count as u64));
        labelled(out, MetricType::Gauge, "messaging_connections", "Connections now", "door", doors)?;
        gauge(out, "channels", "Channels now", hub.channels as u64)?;
        gauge(out, "subscriptions", "Subscriptions now", hub.subscriptions as u64)?;
        counter(out, "messages_published", "Messages published in channels", hub.published)?;
        counter(out, "messages_delivered", "Messages put in outboxes", hub.delivered)?;
        counter(out, "slow_consumers", "Connections closed since they did not read", hub.slow_consumers)?;
        gauge(out, "history_bytes", "What histories take in memory", hub.history_bytes as u64)?;
        gauge(out, "kept_bytes", "What kept messages take in memory", hub.kept_bytes as u64)?;
        gauge(out, "uncommitted_messages", "Messages that wait for storage", hub.uncommitted as u64)?;
        let doors = self.0.counters();
        counter(out, "messages_received", "Messages that clients sent", doors.messages_in)?;
        counter(out, "message_bytes_received", "Bytes of them", doors.bytes_in)?;
        counter(out, "messages_sent", "Messages written to clients", doors.messages_out)?;
        counter(out, "message_bytes_sent", "Bytes of them", doors.bytes_out)?;
        let refusals = [
            ("too_many_connections", doors.refused_connections),
            ("rate_limited", doors.rate_limited),
            ("bad_message", doors.bad_messages),
            ("authentication", doors.authentication_failures),
        ];
        labelled(out, MetricType::Counter, "refusals", "What was refused, by reason", "reason", refusals)
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channels")
    }
}

/// Files.
struct Contents(Files);

impl Collector for Contents {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut out;
        let counters = self.0.counters();
        gauge(out, "uploads_now", "Uploads under way now", counters.uploads)?;
        counter(out, "files_uploaded", "Files that came", counters.uploaded)?;
        counter(out, "file_bytes_uploaded", "Bytes of them", counters.uploaded_bytes)?;
        counter(out, "files_downloaded", "Downloads begun", counters.downloaded)?;
        counter(out, "files_refused", "Uploads refused", counters.refused)?;
        counter(out, "files_deleted", "Files that were deleted or have expired", counters.deleted)
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contents")
    }
}

/// What is kept.
#[derive(Debug)]
struct Storage(Database);

impl Collector for Storage {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut out;
        let counters = self.0.counters();
        counter(out, "storage_kept_messages", "Messages kept since the start", counters.kept)?;
        counter(out, "storage_events", "Events recorded since the start", counters.events)?;
        counter(
            out,
            "storage_events_lost",
            "Events lost because too many waited or the database failed",
            counters.events_lost,
        )?;
        counter(out, "storage_commits", "Transactions committed", counters.commits)?;
        counter(
            out,
            "storage_failures",
            "Messages that could not be kept because the database failed",
            counters.failures,
        )?;
        gauge(out, "storage_queued_messages", "Messages that wait for the disk", counters.queued_messages)?;
        gauge(out, "storage_queued_bytes", "Bytes that wait for the disk", counters.queued_bytes)
    }
}

/// Events on their way to other programs.
#[derive(Debug)]
struct Webhooks(Couriers);

impl Collector for Webhooks {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let counters = self.0.counters();
        counter(&mut out, "webhook_events_delivered", "Events that arrived", counters.delivered)?;
        counter(
            &mut out,
            "webhook_failures",
            "Deliveries that failed; most are tried again",
            counters.failures,
        )?;
        counter(&mut out, "webhook_events_given_up", "Events that were given up", counters.given_up)
    }
}

pub(super) fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(out.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

pub(super) fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(out.encode_descriptor(name, help, None, MetricType::Counter)?)
}

/// One value for each of a label's values, of which there must be few.
fn labelled(
    out: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
) -> fmt::Result {
    let mut family = out.encode_descriptor(name, help, None, kind)?;
    for (label_value, value) in values {
        let labels = [(label, label_value.as_ref())];
        let one = family.encode_family(&labels)?;
        match kind {
            MetricType::Counter => ConstCounter::new(value).encode(one)?,
            _ => ConstGauge::new(value).encode(one)?,
        }
    }
    Ok(())
}
