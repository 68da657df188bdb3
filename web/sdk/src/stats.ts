/** A summary of `getStats`: what a page shows about its own connection, and what tests look at. */

export interface MediaStats {
  /** Milliseconds to the server and back. */
  roundTripMs?: number;
  /** Bits per second since the summary before. */
  sendBitrate: number;
  receiveBitrate: number;
  /** Of the packets that should have come since the summary before, 0 to 1. */
  lossReceived: number;
  /** Freezes of all videos since the beginning. Only those of slots that carry something mean anything. */
  freezes: number;
  framesDecoded: number;
  /** The pictures that are sent, the largest first, by rid (empty without simulcast). */
  layers: { rid: string; width: number; height: number; framesPerSecond: number }[];
}

interface Totals {
  at: number;
  sent: number;
  received: number;
  lost: number;
  packets: number;
}

type Report = Record<string, unknown> & { type: string };

/** Makes summaries; remembers the one before for the rates. */
export class StatsReader {
  #before: Totals | undefined;

  async read(connection: Pick<RTCPeerConnection, 'getStats'>): Promise<MediaStats> {
    const reports: Report[] = [];
    (await connection.getStats()).forEach((report: Report) => reports.push(report));
    return this.summarize(reports, performance.now());
  }

  summarize(reports: readonly Report[], at: number): MediaStats {
    const inbound = reports.filter((report) => report.type === 'inbound-rtp');
    const outbound = reports.filter((report) => report.type === 'outbound-rtp');
    const totals: Totals = {
      at,
      sent: sum(outbound, 'bytesSent'),
      received: sum(inbound, 'bytesReceived'),
      lost: sum(inbound, 'packetsLost'),
      packets: sum(inbound, 'packetsReceived'),
    };
    const before = this.#before ?? totals;
    this.#before = totals;
    const seconds = (totals.at - before.at) / 1000;
    const rate = (now: number, then: number) => (seconds > 0 ? Math.max(0, ((now - then) * 8) / seconds) : 0);
    const lost = Math.max(0, totals.lost - before.lost);
    const expected = lost + Math.max(0, totals.packets - before.packets);
    const pair = reports.find((report) => report.type === 'candidate-pair' && report.nominated === true);
    const roundTrip = pair?.currentRoundTripTime;
    return {
      roundTripMs: typeof roundTrip === 'number' ? roundTrip * 1000 : undefined,
      sendBitrate: rate(totals.sent, before.sent),
      receiveBitrate: rate(totals.received, before.received),
      lossReceived: expected > 0 ? lost / expected : 0,
      freezes: sum(inbound, 'freezeCount'),
      framesDecoded: sum(inbound, 'framesDecoded'),
      layers: outbound
        .filter((report) => report.kind === 'video' && number(report.frameWidth) > 0)
        .map((report) => ({
          rid: typeof report.rid === 'string' ? report.rid : '',
          width: number(report.frameWidth),
          height: number(report.frameHeight),
          framesPerSecond: number(report.framesPerSecond),
        }))
        .sort((a, b) => b.width - a.width),
    };
  }
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}

function sum(reports: readonly Report[], field: string): number {
  return reports.reduce((total, report) => total + number(report[field]), 0);
}
