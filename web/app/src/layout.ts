/** Where each tile stands: pure arithmetic, so that it can be tested without a page. */

export interface Rect {
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface Arrangement {
  tiles: Rect[];
  /** The height that all tiles take; more than the area's when they must be scrolled. */
  height: number;
}

const GAP = 8;
/** Narrower tiles show nobody. */
const NARROWEST = 132;
const WIDE = 16 / 9;
/** Tiles may be as upright as this (a person on a phone) or as wide as 16:9. */
const UPRIGHT = 4 / 5;

/** A grid of equal tiles, as large as they can be. */
export function grid(count: number, width: number, height: number): Arrangement {
  if (count === 0 || width <= 0 || height <= 0) return { tiles: [], height: 0 };
  const best = bestColumns(count, width, height);
  const { columns, tile } = best;
  const rows = Math.ceil(count / columns);
  const used = rows * tile.height + (rows - 1) * GAP;
  const top = Math.max(0, (height - used) / 2);
  const tiles = Array.from({ length: count }, (_, index): Rect => {
    const row = Math.floor(index / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const rowWidth = inRow * tile.width + (inRow - 1) * GAP;
    return {
      left: (width - rowWidth) / 2 + (index - row * columns) * (tile.width + GAP),
      top: top + row * (tile.height + GAP),
      ...tile,
    };
  });
  return { tiles, height: Math.max(height, used) };
}

/** The first `staged` tiles large, the others small beside them (below them where the area is upright). */
export function stage(staged: number, count: number, width: number, height: number): Arrangement {
  const others = count - staged;
  if (staged <= 0 || others <= 0) return grid(count, width, height);
  const beside = width >= height * 1.2 && width >= 640;
  // Many others get two columns beside; below, they get what a wide picture leaves.
  const strip = beside
    ? Math.max(160, Math.min(others > 5 ? 300 : 260, width * (others > 5 ? 0.24 : 0.2)))
    : height - GAP - Math.max(height * (others > 2 ? 0.3 : 0.62), Math.min(height * 0.65, (width / WIDE) * 1.1 * staged));
  const large = beside
    ? grid(staged, width - strip - GAP, height)
    : grid(staged, width, height - strip - GAP);
  const small = beside ? grid(others, strip, height) : grid(others, width, strip);
  const shift = beside ? { left: width - strip, top: 0 } : { left: 0, top: height - strip };
  const moved = small.tiles.map((rect) => ({ ...rect, left: rect.left + shift.left, top: rect.top + shift.top }));
  return { tiles: [...large.tiles, ...moved], height: Math.max(height, shift.top + small.height) };
}

function bestColumns(count: number, width: number, height: number) {
  let best = { columns: 1, tile: { width: 0, height: 0 }, area: -1 };
  const most = Math.max(1, Math.min(count, Math.floor((width + GAP) / (NARROWEST + GAP))));
  for (let columns = 1; columns <= most; columns++) {
    const rows = Math.ceil(count / columns);
    const tile = fit((width - (columns - 1) * GAP) / columns, (height - (rows - 1) * GAP) / rows);
    const area = tile.width * tile.height;
    if (tile.width >= Math.min(NARROWEST, width) && area > best.area * 1.001) best = { columns, tile, area };
  }
  if (best.area >= 0) return best;
  // Too many for the area: as many columns as are wide enough, and the rest is scrolled.
  const tileWidth = (width - (most - 1) * GAP) / most;
  return { columns: most, tile: { width: tileWidth, height: tileWidth / (4 / 3) }, area: 0 };
}

/** The largest tile of an allowed shape in this cell. */
function fit(width: number, height: number) {
  const shape = Math.min(WIDE, Math.max(UPRIGHT, width / height));
  return width / height > shape ? { width: height * shape, height } : { width, height: width / shape };
}
