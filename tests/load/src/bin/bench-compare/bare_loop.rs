//! The least that forwarding through sockets can be: copy, rewrite the header, seal with AES-GCM, send as one train.
//!
//! No server can be faster than this on the machine, so it is the measure for both of them.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::time::ClockId;
use veche_sfu_core::srtp::{OutboundSrtp, SrtpKeys, SrtpProfile};

use crate::cores::pin;

/// As Veche's workers ask for.
const SOCKET_BUFFER: usize = 4 << 20;

/// A fixed header without extensions (RFC 3550 section 5.1).
const HEADER_LEN: usize = 12;

/// The kernel joins datagrams up to the largest UDP payload.
const RECEIVE_BUFFER: usize = 1 << 16;

/// How long the sink looks again and again after it last received something, before it sleeps.
const SINK_NAP: Duration = Duration::from_micros(200);

/// What is sent to whom.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many destinations there are.
    pub subscribers: usize,
    /// How many packets each of them is sent at a time.
    pub burst: usize,
    /// Bytes of payload in a packet.
    pub payload: usize,
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// By the time of the sending thread.
    pub packets_per_cpu_second: f64,
    /// Of the packets sent, those that nobody received.
    pub lost: f64,
}

/// Sends for some time as fast as it goes from one core, while a thread on another receives.
///
/// # Errors
/// Where sockets or cores are not to be had.
pub fn run(load: Load, time: Duration, core: usize, sink_core: usize) -> anyhow::Result<Outcome> {
    let sockets: Vec<UdpSocket> = (0..load.subscribers)
        .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()
        .context("too few sockets")?;
    let addresses: Vec<SocketAddr> = sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<_>>()?;
    let done = Arc::new(AtomicBool::new(false));
    let sink = thread::spawn({
        let done = Arc::clone(&done);
        move || {
            pin(&[sink_core])?;
            Sink::new(sockets)?.run(&done)
        }
    });
    let source = thread::spawn(move || {
        pin(&[core])?;
        Source::new(&addresses, load)?.run(time)
    });
    let sent = source.join().map_err(|_| anyhow!("the sender panicked"))?;
    done.store(true, Ordering::Relaxed);
    let received = sink.join().map_err(|_| anyhow!("the sink panicked"))??;
    let (packets, cpu) = sent?;
    Ok(Outcome {
        packets_per_cpu_second: packets as f64 / cpu.as_secs_f64(),
        lost: 1.0 - received as f64 / packets as f64,
    })
}

struct Source {
    udp: UdpSocket,
    state: UdpSocketState,
    subscribers: Vec<Subscriber>,
    /// One burst of the publisher's packets, with room for the tag.
    packets: Vec<Vec<u8>>,
}

struct Subscriber {
    address: SocketAddr,
    srtp: OutboundSrtp,
    buffer: Vec<u8>,
    /// With the roll-over counter above 16 bits.
    index: u64,
}

impl Source {
    fn new(addresses: &[SocketAddr], load: Load) -> anyhow::Result<Self> {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&udp))?;
        state.set_send_buffer_size(UdpSockRef::from(&udp), SOCKET_BUFFER)?;
        // What both servers and the load tool agree on.
        let profile = SrtpProfile::AeadAes256Gcm;
        let subscriber = |(n, &address): (usize, &SocketAddr)| {
            let material: Vec<u8> = (0..profile.keying_material_len()).map(|i| (i * 7 + n) as u8).collect();
            let keys = SrtpKeys::from_dtls(profile, &material, false).expect("of the right length");
            Subscriber { address, srtp: OutboundSrtp::new(&keys.outbound), buffer: Vec::new(), index: 1 }
        };
        let len = HEADER_LEN + load.payload + profile.rtp_overhead();
        let mut packet = vec![0; len];
        packet[..2].copy_from_slice(&[0x80, 96]);
        let packets = vec![packet; load.burst];
        Ok(Self { udp, state, subscribers: addresses.iter().enumerate().map(subscriber).collect(), packets })
    }

    /// Returns how many packets went out, and the time of this thread that they took.
    fn run(&mut self, time: Duration) -> anyhow::Result<(u64, Duration)> {
        let until = Instant::now() + time;
        let before = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
        let (mut sent, mut timestamp) = (0, 0_u32);
        while Instant::now() < until {
            timestamp = timestamp.wrapping_add(3_000);
            for subscriber in &mut self.subscribers {
                for packet in &self.packets {
                    subscriber.forward(packet, timestamp);
                }
                let transmit = Transmit {
                    destination: subscriber.address,
                    ecn: None,
                    contents: &subscriber.buffer,
                    segment_size: (self.packets.len() > 1).then_some(self.packets[0].len()),
                    src_ip: None,
                };
                self.state.try_send(UdpSockRef::from(&self.udp), &transmit).context("sending failed")?;
                sent += self.packets.len() as u64;
                subscriber.buffer.clear();
            }
        }
        let after = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
        let nanos = |t: rustix::time::Timespec| t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64;
        Ok((sent, Duration::from_nanos(nanos(after) - nanos(before))))
    }
}

impl Subscriber {
    fn forward(&mut self, packet: &[u8], timestamp: u32) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(packet);
        let copy = &mut self.buffer[start..];
        copy[2..4].copy_from_slice(&(self.index as u16).to_be_bytes());
        copy[4..8].copy_from_slice(&timestamp.to_be_bytes());
        copy[8..12].copy_from_slice(&1_u32.to_be_bytes());
        self.srtp
            .protect_rtp((self.index >> 16) as u32, HEADER_LEN, copy)
            .expect("there is room for the tag, and the time is short");
        self.index += 1;
    }
}

struct Sink {
    sockets: Vec<(UdpSocket, UdpSocketState)>,
    buffer: Vec<u8>,
}

impl Sink {
    fn new(sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let with_state = |udp: UdpSocket| {
            let state = UdpSocketState::new(UdpSockRef::from(&udp))?;
            state.set_recv_buffer_size(UdpSockRef::from(&udp), SOCKET_BUFFER)?;
            Ok((udp, state))
        };
        let sockets = sockets.into_iter().map(with_state).collect::<io::Result<_>>()?;
        Ok(Self { sockets, buffer: vec![0; BATCH_SIZE * RECEIVE_BUFFER] })
    }

    /// Receives until it is told that nothing more comes; returns how many packets came.
    fn run(&mut self, done: &AtomicBool) -> anyhow::Result<u64> {
        let mut received = 0;
        loop {
            // Looked at first: what was sent before it was set is found below.
            let last = done.load(Ordering::Relaxed);
            let mut round = 0;
            for (udp, state) in &self.sockets {
                round += receive(udp, state, &mut self.buffer)?;
            }
            received += round;
            match (round, last) {
                (0, true) => return Ok(received),
                (0, false) => thread::sleep(SINK_NAP),
                _ => {}
            }
        }
    }
}

/// Receives one batch, if there is one; returns how many datagrams it had.
fn receive(udp: &UdpSocket, state: &UdpSocketState, buffer: &mut [u8]) -> io::Result<u64> {
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    let mut buffers = buffer.chunks_exact_mut(RECEIVE_BUFFER);
    let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
        std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
    match state.recv(UdpSockRef::from(udp), &mut slices, &mut metas) {
        Ok(count) => Ok(metas.iter().take(count).map(|m| m.len.div_ceil(m.stride.max(1)) as u64).sum()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives() {
        let load = Load { subscribers: 3, burst: 10, payload: 1_100 };
        let outcome = run(load, Duration::from_millis(20), 0, 0).unwrap();
        assert!(outcome.packets_per_cpu_second > 1_000.0);
        // One core for both: what the sink is late for is lost, but not all.
        assert!(outcome.lost < 0.9, "{outcome:?}");
    }
}
