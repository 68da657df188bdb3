import { describe, expect, it } from 'vitest';
import { grid, stage, type Rect } from '../src/layout';

const SIZES = [[320, 480], [360, 640], [768, 1000], [1280, 700], [2560, 1300]] as const;

function overlap(a: Rect, b: Rect): boolean {
  const apart = 0.01;
  return (
    a.left + a.width > b.left + apart && b.left + b.width > a.left + apart &&
    a.top + a.height > b.top + apart && b.top + b.height > a.top + apart
  );
}

function expectSound(tiles: Rect[], width: number, height: number): void {
  for (const [index, tile] of tiles.entries()) {
    expect(tile.width).toBeGreaterThan(60);
    expect(tile.height).toBeGreaterThan(40);
    expect(tile.left).toBeGreaterThanOrEqual(-0.01);
    expect(tile.top).toBeGreaterThanOrEqual(-0.01);
    expect(tile.left + tile.width).toBeLessThanOrEqual(width + 0.01);
    expect(tile.top + tile.height).toBeLessThanOrEqual(height + 0.01);
    for (const other of tiles.slice(index + 1)) expect(overlap(tile, other)).toBe(false);
  }
}

describe.each(SIZES)('in %i x %i', (width, height) => {
  it.each([1, 2, 3, 4, 5, 7, 9, 12, 16, 25, 49])('%i tiles of one size stand inside and apart', (count) => {
    const { tiles, height: used } = grid(count, width, height);
    expect(tiles).toHaveLength(count);
    expectSound(tiles, width, used);
    expect(new Set(tiles.map((tile) => `${tile.width} ${tile.height}`)).size).toBe(1);
  });

  it.each([[1, 2], [1, 5], [2, 6], [1, 20]])('%i of %i tiles are large', (staged, count) => {
    const { tiles, height: used } = stage(staged, count, width, height);
    expect(tiles).toHaveLength(count);
    expectSound(tiles, width, used);
    const area = (tile: Rect | undefined) => (tile ? tile.width * tile.height : 0);
    expect(area(tiles[0])).toBeGreaterThan(area(tiles[count - 1]));
  });
});

it('one tile is as large as its shape allows', () => {
  expect(grid(1, 1600, 900).tiles[0]).toEqual({ left: 0, top: 0, width: 1600, height: 900 });
});

it('few tiles need no scrolling', () => {
  for (const [width, height] of SIZES) for (const count of [1, 2, 3, 4]) {
    expect(grid(count, width, height).height).toBe(height);
  }
});

it('nothing comes of nothing', () => {
  expect(grid(0, 100, 100).tiles).toEqual([]);
  expect(grid(3, 0, 100).tiles).toEqual([]);
});
