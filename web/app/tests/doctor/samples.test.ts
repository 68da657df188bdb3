import { describe, expect, it } from 'vitest';
import { echoFigures, rateMbps, type Echo } from '../../src/doctor/samples';

const trips = (times: (number | undefined)[]): Echo[] =>
  times.map((time, index) => ({ sentAt: index * 20, backAt: time === undefined ? undefined : index * 20 + time }));

describe('packets', () => {
  it('give the middle round trip, and how much longer the slow ones take', () => {
    const figures = echoFigures(trips([...Array.from({ length: 95 }, () => 40), 90, 90, 90, 90, 500]));
    expect(figures).toEqual({ sent: 100, lossPercent: 0, rttMs: 40, jitterMs: 0 });
    expect(echoFigures(trips([10, 20, 30, 40, 110])).jitterMs).toBe(80);
  });

  it('that do not come back are lost', () => {
    const figures = echoFigures(trips([30, undefined, 30, undefined]));
    expect(figures.lossPercent).toBe(50);
    expect(figures.rttMs).toBe(30);
  });

  it('of which none come back say nothing of time', () => {
    expect(echoFigures(trips([undefined, undefined]))).toEqual({ sent: 2, lossPercent: 100, rttMs: null, jitterMs: null });
    expect(echoFigures([])).toEqual({ sent: 0, lossPercent: 0, rttMs: null, jitterMs: null });
  });

  it('that come back in another order count the same', () => {
    expect(echoFigures(trips([100, 10, 50])).rttMs).toBe(50);
  });
});

describe('bytes', () => {
  /** So many bytes every ten milliseconds. */
  const steady = (bytes: number, count: number, from = 0) => Array.from({ length: count }, (_, index) => ({ at: from + index * 10, bytes }));

  it('give megabits per second', () => {
    // 12,500 bytes in 10 ms are 10 Mbit/s.
    expect(rateMbps(steady(12_500, 200), 2_500)).toBeCloseTo(10, 5);
  });

  it('count from when the sender has found its pace', () => {
    expect(rateMbps([...steady(1_250, 50), ...steady(12_500, 200, 500)], 2_500)).toBeCloseTo(10, 5);
    expect(rateMbps([...steady(125_000, 50), ...steady(12_500, 200, 500)], 2_500)).toBeCloseTo(10, 5);
  });

  it('count by the best half second, whatever stands still around it', () => {
    const stalls = [...steady(12_500, 80), ...steady(12_500, 60, 1_500), ...steady(12_500, 30, 2_700)];
    expect(rateMbps(stalls, 3_000)).toBeCloseTo(10, 5);
  });

  it('count all there is where the line is too fast for half a second', () => {
    expect(rateMbps(steady(12_500, 21), 220)).toBeCloseTo(10, 5);
    // 16,000 bytes each, in no time that can be told: the whole of it counts.
    expect(rateMbps([{ at: 0, bytes: 16_000 }, { at: 5, bytes: 16_000 }], 20)).toBeCloseTo(12.8, 5);
  });

  it('show a narrow line as one, however few they are and however they come', () => {
    // 2,000 bytes every 80 ms are 0.2 Mbit/s; a window's edges may catch one block more.
    const narrow = Array.from({ length: 31 }, (_, index) => ({ at: index * 80, bytes: 2_000 }));
    expect(rateMbps(narrow, 2_500)).toBeGreaterThan(0.19);
    expect(rateMbps(narrow, 2_500)).toBeLessThan(0.25);
    expect(rateMbps([], 2_500)).toBe(0);
    expect(rateMbps([{ at: 900, bytes: 2_000 }], 2_500)).toBeLessThan(0.1);
    expect(rateMbps([{ at: 0, bytes: 2_000 }, { at: 2_000, bytes: 2_000 }, { at: 2_020, bytes: 2_000 }], 2_500)).toBeLessThan(0.1);
  });
});
