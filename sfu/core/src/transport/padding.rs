//! Pads RTP packets that lie one behind the other to one size, where that lets them leave in one send.
//!
//! The system cuts one send into datagrams of one size, only the last of which may be shorter (UDP GSO). So packets of a
//! frame whose sizes differ by a few bytes, and the sound of several speakers, would each take a send of their own. RTP
//! padding (the P bit, RFC 3550 section 5.1) makes them equal.
//!
//! The rule: **a packet joins the train before it if that takes at most [`WORTH`] bytes of padding**, be it for the packet
//! before it, which then is not the last any more, or for all before it, when it is longer than they. What a shorter
//! packet would need at the end of its train, nobody has to pay.

/// How many bytes of padding a saved send is worth.
///
/// For the server it would be far more: a send costs as much time as sealing thousands of bytes (docs/speed.md). The limit
/// is the line of the receiver, on which 32 bytes are half of what the headers and the tag of a packet take (IPv4 20,
/// UDP 8, RTP 12, tag 16).
pub const WORTH: u32 = 32;

/// No packet is padded beyond this UDP payload: what fits the smallest MTU of IPv6, 1,280 bytes (RFC 8200 section 5), less
/// the headers of IPv6 and UDP.
const MAX_PADDED: u16 = 1232;

/// The size of a packet, and what is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// The UDP payload without padding.
    pub len: u16,
    /// Bytes of padding.
    pub padding: u8,
    /// Whether padding can be added at all: to RTP that has none yet.
    pub paddable: bool,
}

impl Size {
    /// The UDP payload with padding.
    pub fn padded(self) -> u16 {
        self.len + u16::from(self.padding)
    }

    /// What it takes to make it as long as `len`; `None` if that cannot be.
    fn gap(self, len: u16) -> Option<u8> {
        match len.checked_sub(self.len)? {
            0 => Some(0),
            gap if self.paddable && len <= MAX_PADDED => u8::try_from(gap).ok(),
            _ => None,
        }
    }
}

/// Decides on the padding of packets that leave in this order. Returns how many bytes that is.
pub fn join(packets: &mut [Size]) -> usize {
    let mut added = 0;
    let mut start = 0;
    // The size of the train's packets, but of the last.
    let mut segment = 0;
    for at in 0..packets.len() {
        let next = packets[at].len;
        let train = &mut packets[start..at];
        let (raised, goal) = if next > segment {
            (train, next)
        } else {
            let full = train.len().saturating_sub(1);
            (&mut train[full..], segment)
        };
        match raise(raised, goal) {
            Some(padding) if start < at => {
                added += padding;
                segment = goal;
            }
            _ => {
                start = at;
                segment = next;
            }
        }
    }
    added
}

/// Pads all of these to one size, if that is worth a send. Returns how many bytes more it takes.
fn raise(packets: &mut [Size], goal: u16) -> Option<usize> {
    let mut more = 0;
    for packet in packets.iter() {
        packet.gap(goal)?;
        more += u32::from(goal - packet.padded());
        if more > WORTH {
            return None;
        }
    }
    for packet in packets {
        packet.padding = packet.gap(goal)?;
    }
    Some(more as usize)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn sizes(lens: &[u16]) -> Vec<Size> {
        lens.iter().map(|&len| Size { len, padding: 0, paddable: true }).collect()
    }

    fn padded(lens: &[u16]) -> Vec<u16> {
        let mut sizes = sizes(lens);
        join(&mut sizes);
        sizes.into_iter().map(Size::padded).collect()
    }

    /// How many sends it takes: equal sizes together, the last perhaps shorter.
    fn sends(sizes: &[Size]) -> usize {
        let (mut sends, mut segment, mut open) = (0, 0, false);
        for size in sizes.iter().map(|s| s.padded()) {
            if !open || size > segment {
                sends += 1;
                segment = size;
            }
            open = size == segment;
        }
        sends
    }

    #[test]
    fn what_differs_by_a_few_bytes_becomes_equal() {
        // A frame as browsers cut it: about equal parts, the shorter ones first.
        assert_eq!(padded(&[1050, 1050, 1051, 1051]), [1051; 4]);
        // The sound of three speakers. The last may stay shorter.
        assert_eq!(padded(&[110, 130, 125, 90]), [130, 130, 130, 90]);
        assert_eq!(padded(&[130, 110, 125]), [130, 130, 125]);
    }

    #[test]
    fn what_would_cost_more_than_a_send_stays_as_it_is() {
        assert_eq!(padded(&[1050, 1050, 400, 1050, 300]), [1050, 1050, 400, 1050, 300]);
        assert_eq!(padded(&[100; 1]), [100]);
        assert!(padded(&[]).is_empty());
        // 40 packets that are a byte too short are more than one that is 32 too short.
        let mut lens = vec![1000; 40];
        lens.push(1001);
        assert_eq!(padded(&lens), lens);
        assert_eq!(padded(&lens[9..]), [1001; 32]);
    }

    #[test]
    fn what_is_no_rtp_is_not_padded() {
        let mut packets = sizes(&[100, 101, 100, 101]);
        packets[0].paddable = false;
        join(&mut packets);
        // It cannot grow; it can be as long as others, and it can be the shorter last.
        assert_eq!(packets.iter().map(|p| p.padded()).collect::<Vec<_>>(), [100, 101, 101, 101]);
        let mut packets = sizes(&[120, 100, 120]);
        packets[1].paddable = false;
        join(&mut packets);
        assert_eq!(packets.iter().map(|p| p.padded()).collect::<Vec<_>>(), [120, 100, 120]);
    }

    #[test]
    fn nothing_is_padded_beyond_the_smallest_mtu() {
        assert_eq!(padded(&[1230, 1232]), [1232, 1232]);
        assert_eq!(padded(&[1230, 1233]), [1230, 1233]);
        assert_eq!(padded(&[1240, 1240, 1239, 1240]), [1240, 1240, 1239, 1240]);
    }

    #[test]
    fn joining_never_costs_more_than_it_is_worth() {
        let mut random = StdRng::seed_from_u64(11);
        let (mut before, mut after, mut bytes) = (0, 0, 0);
        for _ in 0..5_000 {
            let spread = [1, 4, 40, 300][random.random_range(0..4)];
            let mut packets: Vec<Size> = (0..random.random_range(0..30))
                .map(|_| Size {
                    len: random.random_range(100..=100 + spread),
                    padding: 0,
                    paddable: random.random_bool(0.95),
                })
                .collect();
            let plain = packets.clone();
            let added = join(&mut packets);
            assert_eq!(added, packets.iter().map(|p| usize::from(p.padding)).sum::<usize>());
            assert!(packets.iter().all(|p| p.paddable || p.padding == 0));
            assert!(sends(&packets) <= sends(&plain), "{plain:?} {packets:?}");
            assert!(added <= WORTH as usize * packets.len().saturating_sub(sends(&packets)));
            before += sends(&plain);
            after += sends(&packets);
            bytes += added;
        }
        assert!(after * 2 < before, "{after} sends instead of {before}");
        assert!(bytes < WORTH as usize * (before - after), "{bytes} bytes for {} sends", before - after);
    }
}
