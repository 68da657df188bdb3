//! Packets to one destination with one call, where the system does no trains: sendmmsg.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

use crate::datagrams::is_of_another;

/// How many packets one call takes.
const MAX_PER_CALL: usize = 64;

/// Sends packets from the address that the socket is bound to. `sent` is told of each what became of it. When there is no
/// room in the send buffer, that of the rest is the same.
pub(crate) fn send_singles<'a>(
    socket: &UdpSocket,
    destination: SocketAddr,
    packets: impl Iterator<Item = &'a [u8]>,
    mut sent: impl FnMut(&[u8], Result<(), Errno>),
) {
    let destination = destination.as_any();
    let mut packets = packets.peekable();
    while packets.peek().is_some() {
        let mut count = 0;
        let slices: [[IoSlice<'_>; 1]; MAX_PER_CALL] = std::array::from_fn(|_| {
            let packet = packets.next();
            count += usize::from(packet.is_some());
            [IoSlice::new(packet.unwrap_or_default())]
        });
        let mut controls: [_; MAX_PER_CALL] = std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut headers = slices.iter().zip(&mut controls);
        let mut headers: [_; MAX_PER_CALL] = std::array::from_fn(|_| {
            let (slice, control) = headers.next().expect("all three are as long");
            MMsgHdr::new_with_addr(&destination, slice, control)
        });
        let (mut done, mut is_again) = (0, false);
        while done < count {
            let result = sendmmsg(socket, &mut headers[done..count], SendFlags::DONTWAIT);
            let (taken, result) = match result {
                Ok(taken) => (taken.max(1), Ok(())),
                Err(Errno::INTR) => continue,
                Err(error) if !is_again && is_of_another(&error.into()) => {
                    is_again = true;
                    continue;
                }
                Err(Errno::AGAIN) => (count - done, Err(Errno::AGAIN)),
                // The others may be taken.
                Err(error) => (1, Err(error)),
            };
            for [slice] in slices.iter().take(count).skip(done).take(taken) {
                sent(slice, result);
            }
            done += taken;
            is_again = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_packets_leave_in_order_and_one_that_is_refused_holds_up_none() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let too_long = vec![0; 1 << 16];
        let packets: Vec<Vec<u8>> = (0..150).map(|n| vec![n; 20 + usize::from(n)]).collect();
        let all = packets[..70].iter().chain([&too_long]).chain(&packets[70..]).map(Vec::as_slice);
        let mut results = Vec::new();
        send_singles(&sender, receiver.local_addr().unwrap(), all, |packet, result| {
            results.push((packet.len(), result));
        });
        assert_eq!(results.len(), 151);
        assert_eq!(results[70], (too_long.len(), Err(Errno::MSGSIZE)));
        assert_eq!(results.iter().filter(|(_, result)| result.is_ok()).count(), 150);
        let mut buffer = [0; 2000];
        for packet in packets {
            let (len, from) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (&packet[..], sender.local_addr().unwrap()));
        }
    }
}
