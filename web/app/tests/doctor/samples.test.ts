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
    expect(rateMbps(steady(12_500, 200))).toBeCloseTo(10, 5);
  });

  it('count from when the sender has found its pace', () => {
    const slowly = steady(1_250, 50);
    expect(rateMbps([...slowly, ...steady(12_500, 200, 500)])).toBeCloseTo(10, 5);
  });

  it('say nothing when too few came, or in too short a time', () => {
    expect(rateMbps([])).toBeNull();
    expect(rateMbps(steady(16_000, 1))).toBeNull();
    expect(rateMbps([{ at: 0, bytes: 16_000 }, { at: 5, bytes: 16_000 }])).toBeNull();
  });
});
