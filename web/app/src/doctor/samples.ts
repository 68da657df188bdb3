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

/** The beginning tells how fast a sender dares, and what queues hold: so much of the time is left out. */
const BEGINNING = 0.25;
/** The best half second counts: data channels halve their pace at every loss, and may stand still for a second after some. */
const WINDOW_MS = 500;
/** In less time nothing can be told of parts. */
const LEAST_MS = 20;

/** What a line carried while it was tried for so long, in megabits per second. */
export function rateMbps(arrivals: readonly Arrival[], triedMs: number): number {
  const [first, last] = [arrivals[0], arrivals.at(-1)];
  if (!first || !last) return 0;
  const from = first.at + (last.at - first.at) * BEGINNING;
  const counted = arrivals.filter(({ at }) => at >= from);
  // Only a line that was done sooner is measured by less: on a narrow one, what comes in a bunch would look fast.
  const whole = triedMs >= 2 * WINDOW_MS;
  const span = whole ? WINDOW_MS : Math.min(WINDOW_MS, last.at - (counted[0]?.at ?? last.at));
  if (span < LEAST_MS) return megabits(sum(arrivals), triedMs);
  let [best, bytes, begin] = [0, 0, 0];
  for (const { at, bytes: more } of counted) {
    bytes += more;
    // The clock starts with an arrival, whose own bytes took their time before it.
    for (let old = counted[begin]; old && old.at <= at - span; old = counted[++begin]) bytes -= old.bytes;
    best = Math.max(best, bytes);
  }
  return megabits(best, span);
}

function sum(arrivals: readonly Arrival[]): number {
  return arrivals.reduce((total, { bytes }) => total + bytes, 0);
}

function megabits(bytes: number, ms: number): number {
  return (bytes * 8) / ms / 1000;
}
