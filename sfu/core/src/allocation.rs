//! Shares what a subscriber's network carries among the pictures in their slots. Pure: demands in, levels out.
//!
//! First everybody's smallest picture, the most wanted first; then what people look at is raised as far as its shown
//! size asks for, then all others step by step. What is shown already is kept a little longer than it would be given
//! anew, so that a picture does not flap between two levels.

/// One way to show a track: a simulcast layer, and the highest sub-layers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The simulcast layer's index among the track's.
    pub layer: u8,
    /// The highest spatial and temporal layer in it; [`Level::ALL`] for everything that there is.
    pub spatial: u8,
    /// See `spatial`.
    pub temporal: u8,
    /// What it takes, in bits per second.
    pub bits: u64,
}

impl Level {
    /// As `spatial` and `temporal`: no limit.
    pub const ALL: u8 = u8::MAX;

    /// Whether both show the same.
    pub fn is_same(&self, other: &Level) -> bool {
        (self.layer, self.spatial, self.temporal) == (other.layer, other.spatial, other.temporal)
    }
}

/// Who is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The subscriber pinned the participant.
    Pinned,
    /// A shared screen.
    Screen,
    /// Speaks, or spoke last.
    Speaker,
    /// Everybody else.
    Rest,
}

/// What one slot could be given.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// How much it is wanted.
    pub rank: Rank,
    /// What can be shown, from the least to the most that the shown size asks for; ascending in bits.
    pub levels: &'a [Level],
    /// Which of them is shown now; `None`: nothing.
    pub shown: Option<usize>,
    /// The highest that may be given now: one that failed a moment ago is not tried again at once.
    pub highest: usize,
}

/// A higher level must fit with so much to spare, for pictures vary in what they take.
const RAISE_MARGIN: f64 = 1.15;

/// And so much less must have been proven: what a probe has shown is the least that there is, but not exact.
const PROVEN_MARGIN: f64 = 1.05;

/// How much may be missing while what is shown is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A twentieth: the usual.
    Little,
    /// A fifth: something is missing since a moment only, and an estimate that was cut by mistake is soon back.
    Much,
}

impl Patience {
    fn share(self) -> f64 {
        match self {
            Patience::Little => 0.95,
            Patience::Much => 0.8,
        }
    }
}

/// What can be given, in bits per second.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// What the network is believed to carry.
    pub bits: u64,
    /// What it has carried of late: more is not shown than fits in here, while what is shown stays.
    pub proven: u64,
}

/// Gives each demand the index of a level, or nothing. Returns the bits per second that are left.
pub fn allocate(
    budget: Budget,
    patience: Patience,
    demands: &[Demand<'_>],
    given: &mut Vec<Option<usize>>,
) -> u64 {
    given.clear();
    given.resize(demands.len(), None);
    let mut left = budget;
    for rank in [Rank::Pinned, Rank::Screen, Rank::Speaker, Rank::Rest] {
        for (demand, given) in demands.iter().zip(given.iter_mut()).filter(|(d, _)| d.rank == rank) {
            raise(demand, given, patience, &mut left);
        }
    }
    for rank in [Rank::Pinned, Rank::Screen, Rank::Speaker, Rank::Rest] {
        loop {
            let mut raised = false;
            for (demand, given) in demands.iter().zip(given.iter_mut()).filter(|(d, _)| d.rank == rank) {
                raised |= given.is_some() && raise(demand, given, patience, &mut left);
            }
            if !raised {
                break;
            }
        }
    }
    left.bits
}

/// Gives the next higher level, if there is one and it fits.
fn raise(demand: &Demand<'_>, given: &mut Option<usize>, patience: Patience, left: &mut Budget) -> bool {
    let next = given.map_or(0, |level| level + 1);
    let Some(level) = demand.levels.get(next).filter(|_| next <= demand.highest) else { return false };
    let before = given.and_then(|level| demand.levels.get(level)).map_or(0, |l| l.bits);
    let kept = demand.shown.is_some_and(|shown| next <= shown);
    let margin = if kept { patience.share() } else { RAISE_MARGIN };
    let needed = (level.bits as f64 * margin) as u64;
    let available =
        Budget { bits: left.bits.saturating_add(before), proven: left.proven.saturating_add(before) };
    let proven = (level.bits as f64 * PROVEN_MARGIN) as u64;
    if needed > available.bits || !kept && proven > available.proven {
        return false;
    }
    *left = Budget {
        bits: available.bits.saturating_sub(level.bits),
        proven: available.proven.saturating_sub(level.bits),
    };
    *given = Some(next);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIMULCAST: [Level; 3] = [level(0, 150_000), level(1, 500_000), level(2, 1_700_000)];

    const fn level(layer: u8, bits: u64) -> Level {
        Level { layer, spatial: Level::ALL, temporal: Level::ALL, bits }
    }

    fn demand(rank: Rank, shown: Option<usize>) -> Demand<'static> {
        Demand { rank, levels: &SIMULCAST, shown, highest: usize::MAX }
    }

    fn believed(bits: u64) -> Budget {
        Budget { bits, proven: u64::MAX }
    }

    fn given(bits: u64, demands: &[Demand<'_>]) -> Vec<Option<usize>> {
        let mut given = Vec::new();
        allocate(believed(bits), Patience::Little, demands, &mut given);
        given
    }

    #[test]
    fn everybody_is_seen_before_anybody_is_seen_well() {
        let demands = [demand(Rank::Speaker, None), demand(Rank::Rest, None), demand(Rank::Rest, None)];
        assert_eq!(given(520_000, &demands), [Some(0), Some(0), Some(0)]);
        assert_eq!(given(900_000, &demands), [Some(1), Some(0), Some(0)]);
        assert_eq!(given(2_300_000, &demands), [Some(2), Some(0), Some(0)]);
        assert_eq!(given(3_200_000, &demands), [Some(2), Some(1), Some(1)]);
        assert_eq!(given(u64::MAX, &demands), [Some(2), Some(2), Some(2)]);
    }

    #[test]
    fn the_most_wanted_is_kept_when_not_everything_fits() {
        let demands =
            [demand(Rank::Rest, Some(0)), demand(Rank::Pinned, Some(0)), demand(Rank::Screen, Some(0))];
        assert_eq!(given(300_000, &demands), [None, Some(0), Some(0)]);
        assert_eq!(given(160_000, &demands), [None, Some(0), None]);
        assert_eq!(given(100_000, &demands), [None, None, None]);
    }

    #[test]
    fn all_others_are_raised_step_by_step() {
        let demands = [demand(Rank::Rest, None); 3];
        assert_eq!(given(1_300_000, &demands), [Some(1), Some(1), Some(0)]);
        assert_eq!(given(3_000_000, &demands), [Some(2), Some(1), Some(1)]);
    }

    #[test]
    fn what_is_shown_is_kept_on_less_than_it_would_be_given_on() {
        assert_eq!(given(500_000, &[demand(Rank::Rest, Some(0))]), [Some(0)]);
        assert_eq!(given(500_000, &[demand(Rank::Rest, Some(1))]), [Some(1)]);
        assert_eq!(given(480_000, &[demand(Rank::Rest, Some(1))]), [Some(1)]);
        assert_eq!(given(470_000, &[demand(Rank::Rest, Some(1))]), [Some(0)]);
        let mut given = Vec::new();
        allocate(believed(410_000), Patience::Much, &[demand(Rank::Rest, Some(1))], &mut given);
        assert_eq!(given, [Some(1)]);
    }

    #[test]
    fn a_level_that_failed_is_not_tried() {
        let failed = Demand { highest: 1, ..demand(Rank::Pinned, Some(1)) };
        assert_eq!(given(u64::MAX, &[failed]), [Some(1)]);
    }

    #[test]
    fn nothing_is_raised_beyond_what_was_proven_and_what_is_shown_stays() {
        let level = |shown, proven| {
            let mut given = Vec::new();
            let budget = Budget { bits: 2_500_000, proven };
            allocate(budget, Patience::Little, &[demand(Rank::Rest, shown)], &mut given);
            given[0]
        };
        assert_eq!(level(Some(0), 400_000), Some(0));
        assert_eq!(level(Some(0), 520_000), Some(0));
        assert_eq!(level(Some(0), 530_000), Some(1));
        assert_eq!(level(Some(1), 400_000), Some(1));
        assert_eq!(level(Some(1), 1_800_000), Some(2));
    }

    #[test]
    fn nothing_left_is_told_exactly() {
        let mut given = Vec::new();
        let left = allocate(believed(1_000_000), Patience::Little, &[demand(Rank::Rest, None)], &mut given);
        assert_eq!((given, left), (vec![Some(1)], 500_000));
    }
}
