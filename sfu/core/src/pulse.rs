//! How often a participant is looked at: often while their media comes or pictures go to them, now and then while only
//! sound does, and only for their timers while nothing happens.

use std::time::{Duration, Instant};

/// While something comes from them, for gaps must be noticed and answered soon; and while pictures go to them, for what
/// their network carries must be found out.
pub const BUSY_TICK: Duration = Duration::from_millis(10);
/// While only sound goes to them.
const AWAKE_TICK: Duration = Duration::from_millis(100);
/// How long after their last packet they still count as busy: longer than any repair takes.
const BUSY_FOR: Duration = Duration::from_millis(1_500);
/// How long after the last packet from or to them they are still awake: until the last report is sent and what their
/// layers keep for repairs is given back.
const AWAKE_FOR: Duration = Duration::from_secs(7);

/// What happens with one participant.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    busy_until: Instant,
    awake_until: Instant,
    /// What was sent to them, as of the last look.
    packets_sent: u64,
    /// Pictures go to them.
    watches: bool,
}

impl Pulse {
    /// Of somebody with whom nothing has happened yet.
    pub fn new(now: Instant) -> Self {
        Self { busy_until: now, awake_until: now, packets_sent: 0, watches: false }
    }

    /// Something comes from them: media, or a handshake.
    pub fn hurry(&mut self, now: Instant) {
        self.busy_until = now + BUSY_FOR;
        self.awake_until = now + AWAKE_FOR;
    }

    /// Something is about to go to them, or is wanted of them.
    pub fn wake(&mut self, now: Instant) {
        self.awake_until = now + AWAKE_FOR;
    }

    /// They are looked at: so many packets of media were sent to them since they came, and pictures are sent now.
    pub fn on_look(&mut self, now: Instant, packets_sent: u64, watches: bool) {
        self.watches = watches;
        if std::mem::replace(&mut self.packets_sent, packets_sent) != packets_sent {
            self.wake(now);
        }
    }

    /// Whether anything happened of late.
    pub fn is_awake(&self, now: Instant) -> bool {
        now < self.awake_until
    }

    /// When to look at them again, if nothing happens.
    pub fn next_look(&self, now: Instant) -> Option<Instant> {
        if self.watches || now < self.busy_until {
            Some(now + BUSY_TICK)
        } else {
            self.is_awake(now).then(|| now + AWAKE_TICK)
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rare_and_end() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(now);
        assert_eq!(pulse.next_look(now), None);
        pulse.hurry(now);
        let (mut looks, began) = (0, now);
        while let Some(next) = pulse.next_look(now) {
            now = next;
            looks += 1;
        }
        assert!(now - began < AWAKE_FOR + AWAKE_TICK);
        assert!((200..=210).contains(&looks), "150 while busy, 55 while awake: {looks}");
    }

    #[test]
    fn who_is_sent_something_stays_awake() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(now);
        pulse.wake(now);
        for packets in 1..=300 {
            now += AWAKE_TICK;
            pulse.on_look(now, packets, false);
            assert_eq!(pulse.next_look(now), Some(now + AWAKE_TICK));
        }
        pulse.on_look(now, 301, true);
        assert_eq!(pulse.next_look(now), Some(now + BUSY_TICK));
        now += AWAKE_FOR;
        pulse.on_look(now, 301, false);
        assert_eq!(pulse.next_look(now), None);
    }
}
