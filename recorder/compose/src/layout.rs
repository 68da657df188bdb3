//! Where tiles are in a picture.

use serde::Serialize;

/// Who is where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Layout {
    /// Everybody as large as everybody else.
    Grid,
    /// Who speaks is large, the others are in a strip beside.
    Speaker,
    /// A shared screen is large, and people are in a strip beside; without one it is as [`Layout::Speaker`].
    Screen,
}

/// A place in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From the left.
    pub x: u32,
    /// From the top.
    pub y: u32,
    /// Even.
    pub width: u32,
    /// Even.
    pub height: u32,
}

/// So many are in a grid, and so many in a strip; who was heard last goes first.
pub const MOST_IN_GRID: usize = 16;
/// In a strip.
pub const MOST_IN_STRIP: usize = 5;

/// Between tiles.
const SPACE: u32 = 4;

/// The places of so many tiles in a grid.
pub fn grid(count: usize, (width, height): (u32, u32)) -> Vec<Place> {
    let count = count.clamp(1, MOST_IN_GRID) as u32;
    let columns = (1..=count).find(|columns| columns * columns >= count).unwrap_or(1);
    let rows = count.div_ceil(columns);
    let (tile_width, tile_height) = (width / columns, height / rows);
    (0..count)
        .map(|index| {
            let (row, column) = (index / columns, index % columns);
            // The last row may have fewer: they are in its middle.
            let in_row = if row + 1 == rows { count - row * columns } else { columns };
            let left = (width - in_row * tile_width) / 2;
            inset(left + column * tile_width, row * tile_height, tile_width, tile_height, count > 1)
        })
        .collect()
}

/// The place of a large tile, and of so many beside it.
pub fn strip(count: usize, (width, height): (u32, u32)) -> Vec<Place> {
    let count = count.min(MOST_IN_STRIP) as u32;
    if count == 0 {
        return vec![inset(0, 0, width, height, false)];
    }
    let strip_width = width / 5;
    let tile_height = (height / MOST_IN_STRIP as u32).max(2);
    let mut places = vec![inset(0, 0, width - strip_width, height, true)];
    let top = (height - count * tile_height) / 2;
    places.extend(
        (0..count).map(|index| {
            inset(width - strip_width, top + index * tile_height, strip_width, tile_height, true)
        }),
    );
    places
}

/// Even numbers, since colours have half the size, and some space around.
fn inset(x: u32, y: u32, width: u32, height: u32, with_space: bool) -> Place {
    let space = if with_space { SPACE } else { 0 };
    let even = |value: u32| value & !1;
    Place {
        x: even(x + space / 2),
        y: even(y + space / 2),
        width: even(width.saturating_sub(space)).max(2),
        height: even(height.saturating_sub(space)).max(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (u32, u32) = (1_280, 720);

    #[test]
    fn tiles_fit_and_do_not_overlap() {
        let all = (1..=20).map(|count| grid(count, SIZE)).chain((0..9).map(|count| strip(count, SIZE)));
        for places in all {
            for (index, place) in places.iter().enumerate() {
                assert!(place.x + place.width <= SIZE.0 && place.y + place.height <= SIZE.1, "{places:?}");
                assert_eq!((place.x | place.y | place.width | place.height) & 1, 0);
                for other in &places[index + 1..] {
                    let apart = place.x + place.width <= other.x
                        || other.x + other.width <= place.x
                        || place.y + place.height <= other.y
                        || other.y + other.height <= place.y;
                    assert!(apart, "{place:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn one_has_all_and_three_make_two_rows() {
        assert_eq!(grid(1, SIZE), [Place { x: 0, y: 0, width: 1_280, height: 720 }]);
        assert_eq!(strip(0, SIZE), grid(1, SIZE));
        let three = grid(3, SIZE);
        assert_eq!((three[0].y, three[1].y, three[2].y), (2, 2, 362));
        assert_eq!(three[2].x, 322, "in the middle");
        assert_eq!(strip(9, SIZE).len(), 1 + MOST_IN_STRIP);
    }
}
