//! Which layers of a track anybody wants: what its publisher need not send is told.

use std::time::{Duration, Instant};

/// As many layers a track can have here.
const MAX_LAYERS: usize = 8;

/// The demand for one track's layers, one bit each.
#[derive(Clone, Copy, Debug)]
pub struct LayerDemand {
    wanted: u8,
    /// What the publisher was told. In the beginning it sends everything.
    told: u8,
    unwanted_since: [Option<Instant>; MAX_LAYERS],
}

impl Default for LayerDemand {
    fn default() -> Self {
        Self { wanted: 0, told: u8::MAX, unwanted_since: [None; MAX_LAYERS] }
    }
}

impl LayerDemand {
    /// Asks anew: nobody has wanted anything yet.
    pub fn begin(&mut self) {
        self.wanted = 0;
    }

    /// Somebody wants this layer.
    pub fn want(&mut self, layer: u8) {
        self.wanted |= 1_u8.checked_shl(u32::from(layer)).unwrap_or(0);
    }

    /// Somebody elsewhere wants these layers, one bit each.
    pub fn want_all(&mut self, layers: u8) {
        self.wanted |= layers;
    }

    /// What is wanted since [`LayerDemand::begin`], one bit for each layer.
    pub fn wanted(&self) -> u8 {
        self.wanted
    }

    /// What the publisher was told to send, one bit for each layer.
    pub fn told_layers(&self) -> u8 {
        self.told
    }

    /// The publisher was told elsewhere to send these layers, one bit each.
    pub fn set_told(&mut self, layers: u8) {
        self.told = layers;
    }

    /// Whether the publisher was told to send this layer.
    pub fn told(&self, layer: u8) -> bool {
        self.told & 1_u8.checked_shl(u32::from(layer)).unwrap_or(0) != 0
    }

    /// Takes all wants since [`LayerDemand::begin`] together. Returns whether the publisher must be told: at once of a layer that is
    /// wanted, of one that is not after `patience`. The track has so many `layers`.
    pub fn update(&mut self, now: Instant, layers: usize, patience: Duration) -> bool {
        let known = 1_u8.checked_shl(layers as u32).unwrap_or(0).wrapping_sub(1);
        let mut next = self.told | self.wanted;
        for (layer, since) in self.unwanted_since.iter_mut().enumerate() {
            let bit = 1 << layer;
            if self.wanted & bit != 0 {
                *since = None;
            } else if now.saturating_duration_since(*since.get_or_insert(now)) >= patience {
                next &= !bit;
            }
        }
        (std::mem::replace(&mut self.told, next) ^ next) & known != 0
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use super::*;

    #[test]
    fn unwanted_layers_are_told_late_and_wanted_ones_at_once() {
        let start = Instant::now();
        let mut demand = LayerDemand::default();
        let patience = Duration::from_secs(3);
        let mut update = |ms, layers: &[u8]| {
            demand.begin();
            for layer in layers {
                demand.want(*layer);
            }
            let changed = demand.update(start + Duration::from_millis(ms), 3, patience);
            (changed, [0, 1, 2].map(|l| demand.told(l)))
        };
        assert_eq!(update(0, &[0]), (false, [true; 3]));
        assert_eq!(update(2_900, &[0, 1]), (false, [true; 3]));
        assert_eq!(update(3_000, &[0]), (true, [true, true, false]));
        assert_eq!(update(3_100, &[0]), (false, [true, true, false]));
        assert_eq!(update(6_000, &[0]), (true, [true, false, false]));
        assert_eq!(update(6_100, &[0, 2]), (true, [true, false, true]));
        assert_eq!(update(9_200, &[]), (false, [true, false, true]));
        assert_eq!(update(13_000, &[]), (true, [false; 3]));
    }
}
