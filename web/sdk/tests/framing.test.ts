import { describe, expect, it } from 'vitest';
import { decodeFrame, encodeFrame, fragment, Reassembly } from '../src/framing';

const bytes = (length: number, seed = 7) => Uint8Array.from({ length }, (_, index) => (index * seed) % 251);

describe('a frame', () => {
  it('is flags, length of the id, id, payload', () => {
    const frame = encodeFrame({ more: true, text: true, peerId: 'ab', payload: Uint8Array.of(9) });
    expect([...frame]).toEqual([3, 2, 97, 98, 9]);
    expect(decodeFrame(frame)).toEqual({ more: true, text: true, peerId: 'ab', payload: Uint8Array.of(9) });
  });

  it('is refused when it is cut or its id is too long', () => {
    expect(decodeFrame(Uint8Array.of())).toBeUndefined();
    expect(decodeFrame(Uint8Array.of(0))).toBeUndefined();
    expect(decodeFrame(Uint8Array.of(0, 3, 97))).toBeUndefined();
    expect(decodeFrame(new Uint8Array(100).fill(65))).toBeUndefined();
    expect(() => encodeFrame({ more: false, text: false, peerId: 'x'.repeat(65), payload: bytes(1) })).toThrow(RangeError);
  });

  it('of random bytes never throws', () => {
    let state = 1;
    const random = () => (state = (state * 48_271) % 2_147_483_647);
    const reassembly = new Reassembly(1_000);
    for (let round = 0; round < 5_000; round++) {
      const data = Uint8Array.from({ length: random() % 90 }, () => random() % 256);
      const frame = decodeFrame(data);
      if (frame) reassembly.take(frame);
      expect(reassembly.held).toBeLessThanOrEqual(4_000);
    }
  });
});

describe('a message', () => {
  it.each([0, 1, 97, 98, 99, 1_000])('of %i bytes survives fragments of 100', (length) => {
    const payload = bytes(length);
    const frames = [...fragment({ text: false, peerId: '', payload }, 100)];
    expect(frames.every((frame) => frame.length <= 100)).toBe(true);
    const reassembly = new Reassembly(2_000);
    const messages = frames.flatMap((frame) => reassembly.take({ ...decodeFrame(frame)!, peerId: 'bob' }) ?? []);
    expect(messages).toEqual([{ from: 'bob', data: payload }]);
    expect(reassembly.held).toBe(0);
  });

  it('keeps a letter that is cut between fragments', () => {
    const payload = new TextEncoder().encode('вече');
    const reassembly = new Reassembly(100);
    const frames = [...fragment({ text: true, peerId: '', payload }, 5)];
    const got = frames.flatMap((frame) => reassembly.take(decodeFrame(frame)!) ?? []);
    expect(got.map((message) => message.data)).toEqual(['вече']);
  });

  it('of one sender is not mixed with that of another', () => {
    const reassembly = new Reassembly(100);
    const part = (peerId: string, value: number, more: boolean) =>
      reassembly.take({ peerId, more, text: false, payload: Uint8Array.of(value) });
    part('a', 1, true);
    part('b', 2, true);
    expect(part('a', 3, false)?.data).toEqual(Uint8Array.of(1, 3));
    expect(part('b', 4, false)?.data).toEqual(Uint8Array.of(2, 4));
  });

  it('that is too large is dropped with its tail, and the next one is taken', () => {
    const reassembly = new Reassembly(10);
    const take = (length: number, more: boolean) =>
      reassembly.take({ peerId: 'a', more, text: false, payload: bytes(length) });
    take(8, true);
    expect(reassembly.held).toBe(8);
    take(8, true);
    expect(reassembly.held).toBe(0);
    expect(take(3, false)).toBeUndefined();
    expect(take(3, false)?.data).toEqual(bytes(3));
  });

  it('of somebody who left is forgotten', () => {
    const reassembly = new Reassembly(100);
    reassembly.take({ peerId: 'a', more: true, text: false, payload: bytes(9) });
    reassembly.forget('a');
    expect(reassembly.held).toBe(0);
  });
});
