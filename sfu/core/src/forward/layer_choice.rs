//! Which layer of a track a slot should show. The one place for this decision: the shown size decides today, the
//! subscriber's bandwidth joins later.

use smallvec::SmallVec;

/// What the choice needs to know of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerView {
    /// The size of its pictures, where a key frame has shown it.
    pub size: Option<(u16, u16)>,
    /// Whether packets of it arrive.
    pub flowing: bool,
}

/// What the pictures of the largest layer are taken to be before one was seen.
const ASSUMED_SIZE: (u16, u16) = (1280, 720);

/// Chooses a layer; `layers` go from the smallest picture to the largest, `wanted` is the shown size in device pixels
/// (0: as large as there is). The smallest layer that fills the size is ideal; where it does not flow, the nearest one
/// that does is taken, a smaller one first. `None` without layers.
pub fn choose_layer(layers: &[LayerView], wanted: (u16, u16)) -> Option<usize> {
    let ideal = ideal_layer(layers, wanted)?;
    let below = (0..=ideal).rev().find(|&i| layers[i].flowing);
    let above = (ideal..layers.len()).find(|&i| layers[i].flowing);
    let nearest = match (below, above) {
        (Some(b), Some(a)) if a - ideal < ideal - b => a,
        (Some(b), _) => b,
        (None, Some(a)) => a,
        (None, None) => ideal,
    };
    Some(nearest)
}

/// The highest spatial layer inside a stream that is of use at a size: the smallest one that fills it. `sizes` are those of
/// its spatial layers, from the lowest on. What does not flow is the forwarder's concern, which takes the next one below.
pub fn choose_spatial(sizes: &[Option<(u16, u16)>], wanted: (u16, u16)) -> u8 {
    if sizes.len() < 2 {
        return u8::MAX;
    }
    let views: SmallVec<[LayerView; 4]> =
        sizes.iter().map(|size| LayerView { size: *size, flowing: true }).collect();
    match ideal_layer(&views, wanted) {
        Some(ideal) if ideal + 1 < sizes.len() => ideal as u8,
        _ => u8::MAX,
    }
}

fn ideal_layer(layers: &[LayerView], wanted: (u16, u16)) -> Option<usize> {
    let last = layers.len().checked_sub(1)?;
    if wanted.0 == 0 || wanted.1 == 0 {
        return Some(last);
    }
    let fills = |i: usize| {
        let (width, height) = layers[i].size.unwrap_or_else(|| assumed_size(last - i));
        // A tenth less than the shown size is not visible. Letterboxed pictures touch the frame on one axis only.
        u32::from(width) * 10 >= u32::from(wanted.0) * 9 || u32::from(height) * 10 >= u32::from(wanted.1) * 9
    };
    Some((0..last).find(|&i| fills(i)).unwrap_or(last))
}

/// Each simulcast layer is usually half the size of the next.
fn assumed_size(halvings: usize) -> (u16, u16) {
    (ASSUMED_SIZE.0 >> halvings.min(4), ASSUMED_SIZE.1 >> halvings.min(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(flowing: [bool; 3]) -> [LayerView; 3] {
        let sizes = [(320, 180), (640, 360), (1280, 720)];
        [0, 1, 2].map(|i| LayerView { size: Some(sizes[i]), flowing: flowing[i] })
    }

    #[test]
    fn the_smallest_layer_that_fills_the_size_is_taken() {
        let all = layers([true; 3]);
        assert_eq!(choose_layer(&all, (160, 90)), Some(0));
        assert_eq!(choose_layer(&all, (340, 195)), Some(0));
        assert_eq!(choose_layer(&all, (400, 300)), Some(1));
        assert_eq!(choose_layer(&all, (1920, 1080)), Some(2));
        assert_eq!(choose_layer(&all, (0, 0)), Some(2));
    }

    #[test]
    fn a_layer_that_does_not_flow_is_replaced_by_the_nearest_that_does() {
        assert_eq!(choose_layer(&layers([true, true, false]), (0, 0)), Some(1));
        assert_eq!(choose_layer(&layers([true, false, false]), (0, 0)), Some(0));
        assert_eq!(choose_layer(&layers([false, false, true]), (100, 100)), Some(2));
        assert_eq!(choose_layer(&layers([true, false, true]), (640, 360)), Some(0));
        assert_eq!(choose_layer(&layers([false; 3]), (640, 360)), Some(1));
    }

    #[test]
    fn the_smallest_spatial_layer_that_fills_the_size_is_the_highest_of_use() {
        let sizes = [Some((320, 180)), Some((640, 360)), Some((1280, 720))];
        assert_eq!(choose_spatial(&sizes, (300, 200)), 0);
        assert_eq!(choose_spatial(&sizes, (640, 360)), 1);
        assert_eq!(choose_spatial(&sizes, (900, 600)), u8::MAX);
        assert_eq!(choose_spatial(&sizes, (0, 0)), u8::MAX);
        assert_eq!(choose_spatial(&sizes[..1], (16, 9)), u8::MAX);
    }

    #[test]
    fn sizes_are_assumed_until_they_are_seen() {
        let unseen = [LayerView { size: None, flowing: true }; 3];
        assert_eq!(choose_layer(&unseen, (320, 180)), Some(0));
        assert_eq!(choose_layer(&unseen, (640, 360)), Some(1));
        assert_eq!(choose_layer(&[], (1, 1)), None);
    }
}
