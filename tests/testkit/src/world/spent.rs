//! How much of the processor the engines of a world take, by what they were called for.

use std::time::Duration;

use veche_sfu_core::rtp::is_rtcp;

use crate::cpu;

/// What engines have cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineTime {
    /// Commands of the control plane: offers above all.
    pub commands: Spent,
    /// STUN requests.
    pub stun: Spent,
    /// DTLS: handshakes and data channels.
    pub dtls: Spent,
    /// RTP packets.
    pub media: Spent,
    /// RTCP packets.
    pub feedback: Spent,
    /// What was due.
    pub timers: Spent,
    /// Handing out what is to be sent; this includes what the world does with it.
    pub flush: Spent,
}

/// The cost of one kind of call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// How many calls there were.
    pub calls: u64,
    /// What they took together.
    pub total: Duration,
    /// What the longest took.
    pub longest: Duration,
}

impl EngineTime {
    /// What was spent since `before`; the longest calls are those of all times.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            commands: self.commands.since(&before.commands),
            stun: self.stun.since(&before.stun),
            dtls: self.dtls.since(&before.dtls),
            media: self.media.since(&before.media),
            feedback: self.feedback.since(&before.feedback),
            timers: self.timers.since(&before.timers),
            flush: self.flush.since(&before.flush),
        }
    }

    /// Everything together.
    pub fn total(&self) -> Duration {
        let Self { commands, stun, dtls, media, feedback, timers, flush } = self;
        [commands, stun, dtls, media, feedback, timers, flush].iter().map(|spent| spent.total).sum()
    }

    /// Where a datagram counts.
    pub(super) fn of(&mut self, datagram: &[u8]) -> &mut Spent {
        match datagram.first() {
            Some(0..=3) => &mut self.stun,
            Some(20..=63) => &mut self.dtls,
            _ if is_rtcp(datagram) => &mut self.feedback,
            _ => &mut self.media,
        }
    }
}

impl Spent {
    fn since(&self, before: &Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            total: self.total.saturating_sub(before.total),
            longest: self.longest,
        }
    }

    /// Calls, and adds what it took.
    pub(super) fn measure<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let (result, took) = cpu::measure(call);
        self.calls += 1;
        self.total += took;
        self.longest = self.longest.max(took);
        result
    }
}
