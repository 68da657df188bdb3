import { describe, expect, it } from 'vitest';
import { Channel } from '../src/data';
import { decodeFrame } from '../src/framing';

const LIMITS = { max_signal_bytes: 1_000, max_data_message_bytes: 1_000, max_fragmented_bytes: 5_000 };

/** A channel that is open, and what it sends. */
function open(): { channel: Channel; sent: Uint8Array[] } {
  const sent: Uint8Array[] = [];
  const carrier = { readyState: 'open', bufferedAmount: 0, send: (bytes: Uint8Array) => sent.push(bytes), close() {} };
  const channel = new Channel('x');
  channel.attach(() => carrier as unknown as RTCDataChannel, LIMITS);
  return { channel, sent };
}

describe.each(['', 'bob', 'p'.repeat(64)])('a message to "%s"', (to) => {
  // The server makes room for the longest peer id before each payload.
  const most = LIMITS.max_data_message_bytes - 66;

  it.each([
    [most, 1],
    [most + 1, 2],
    [most * 2, 2],
    [most * 2 + 1, 3],
  ])('of %i bytes goes in %i frames, none of which the server finds too large', async (length, count) => {
    const { channel, sent } = open();
    await channel.send(new Uint8Array(length), { to });
    const payloads = sent.map((bytes) => decodeFrame(bytes)?.payload.length ?? Number.NaN);
    expect(payloads).toHaveLength(count);
    expect(Math.max(...payloads)).toBe(Math.min(length, most));
    expect(payloads.reduce((sum, one) => sum + one)).toBe(length);
  });
});
