/** What test packets and test bytes say of a line. All times in milliseconds of one clock. */

/** A numbered packet that was sent, and when it came back; `undefined`: it did not. */
export interface Echo {
  sentAt: number;
  backAt?: number | undefined;
}

export interface EchoFigures {
  sent: number;
  /** Of what was sent, in percent; there and back together. */
  lossPercent: number;
  /** The middle one of all round trips; `null` where nothing came back. */
  rttMs: number | null;
  /** How much longer than the middle one the slow round trips take (95 of 100 are faster). */
  jitterMs: number | null;
}

export function echoFigures(echoes: readonly Echo[]): EchoFigures {
  const trips = echoes.flatMap(({ sentAt, backAt }) => (backAt === undefined ? [] : [backAt - sentAt])).sort((a, b) => a - b);
  const sent = echoes.length;
  const middle = trips[Math.floor((trips.length - 1) / 2)];
  const slow = trips[Math.ceil(trips.length * 0.95) - 1];
  return {
    sent,
    lossPercent: sent === 0 ? 0 : (100 * (sent - trips.length)) / sent,
    rttMs: middle ?? null,
    jitterMs: middle === undefined || slow === undefined ? null : slow - middle,
  };
}

/** Bytes that arrived, and when. */
export interface Arrival {
  at: number;
  bytes: number;
}

/** The beginning tells how fast a sender dares, not how much the line carries: so much of the time is left out. */
const BEGINNING = 0.25;
/** In less time nothing can be told. */
const LEAST_MS = 20;

/** What a line carried, in megabits per second; `null` where too little arrived to tell. */
export function rateMbps(arrivals: readonly Arrival[]): number | null {
  const [first, last] = [arrivals[0], arrivals.at(-1)];
  if (!first || !last) return null;
  const from = first.at + (last.at - first.at) * BEGINNING;
  // The clock starts with an arrival, whose own bytes took their time before it.
  const start = arrivals.findIndex(({ at }) => at >= from);
  const begin = arrivals[start];
  if (!begin || last.at - begin.at < LEAST_MS) return null;
  const bytes = arrivals.slice(start + 1).reduce((sum, arrival) => sum + arrival.bytes, 0);
  return (bytes * 8) / (last.at - begin.at) / 1000;
}
