//! How much redundancy a subscriber's sound needs: what their line loses decides.

/// More loss than this calls for one older packet in each, and for two. Up to 2 % a decoder conceals well, and the
/// sender's in-band FEC helps; with one older packet at 8 % every 150th packet is lost for good.
const ONE_ABOVE: f32 = 0.02;
const TWO_ABOVE: f32 = 0.08;
/// Less than this, and so much is not needed any more.
const ONE_BELOW: f32 = 0.01;
const TWO_BELOW: f32 = 0.05;
/// For so many seconds loss must stay low until redundancy becomes less: bad moments come in groups.
const CALM_SECONDS: u8 = 10;

/// How many older packets each packet of sound carries to one subscriber.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redundancy {
    older: u8,
    calm_seconds: u8,
    /// The network has no room for more than this.
    most: Option<u8>,
}

impl Redundancy {
    /// How many older packets to carry: 0 to 2.
    pub fn older(&self) -> u8 {
        self.older.min(self.most.unwrap_or(u8::MAX))
    }

    /// The network has room for so many copies of what is said, the packets themselves included. Where it has not, more would cause
    /// the loss that it is meant for.
    pub fn limit(&mut self, copies: u64) {
        self.most = Some(u8::try_from(copies.saturating_sub(1)).unwrap_or(u8::MAX));
    }

    /// Takes the share of packets that the subscriber's line loses, 0.0 to 1.0. To be called once a second. More
    /// redundancy comes at once, less after a while.
    pub fn on_loss(&mut self, loss: f32) {
        let wanted = redundancy_for(loss, self.older);
        if wanted >= self.older {
            self.older = wanted;
            self.calm_seconds = 0;
            return;
        }
        self.calm_seconds += 1;
        if self.calm_seconds >= CALM_SECONDS {
            self.older = wanted;
            self.calm_seconds = 0;
        }
    }
}

/// How many older packets this loss calls for when `current` are carried.
fn redundancy_for(loss: f32, current: u8) -> u8 {
    let one = loss > ONE_ABOVE || (current > 0 && loss >= ONE_BELOW);
    let two = loss > TWO_ABOVE || (current > 1 && loss >= TWO_BELOW);
    u8::from(one) + u8::from(two)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(redundancy: &mut Redundancy, seconds: u32, loss: f32) -> u8 {
        (0..seconds).for_each(|_| redundancy.on_loss(loss));
        redundancy.older()
    }

    #[test]
    fn loss_brings_redundancy_at_once_and_takes_it_away_after_a_while() {
        let mut redundancy = Redundancy::default();
        assert_eq!(after(&mut redundancy, 100, 0.02), 0);
        assert_eq!(after(&mut redundancy, 1, 0.03), 1);
        assert_eq!(after(&mut redundancy, 1, 0.09), 2);
        assert_eq!(after(&mut redundancy, 9, 0.0), 2);
        assert_eq!(after(&mut redundancy, 1, 0.0), 0);
    }

    #[test]
    fn between_the_thresholds_it_stays_as_it_is() {
        let mut redundancy = Redundancy::default();
        assert_eq!(after(&mut redundancy, 100, 0.015), 0);
        assert_eq!(after(&mut redundancy, 1, 0.05), 1);
        assert_eq!(after(&mut redundancy, 100, 0.015), 1);
        assert_eq!(after(&mut redundancy, 100, 0.06), 1);
        assert_eq!(after(&mut redundancy, 1, 0.2), 2);
        assert_eq!(after(&mut redundancy, 100, 0.06), 2);
        assert_eq!(after(&mut redundancy, 100, 0.04), 1);
    }

    #[test]
    fn a_bad_second_begins_the_wait_anew() {
        let mut redundancy = Redundancy::default();
        after(&mut redundancy, 1, 0.05);
        for _ in 0..5 {
            assert_eq!(after(&mut redundancy, 9, 0.0), 1);
            assert_eq!(after(&mut redundancy, 1, 0.05), 1);
        }
        assert_eq!(after(&mut redundancy, 10, 0.0), 0);
    }
}
