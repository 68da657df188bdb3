import { describe, expect, it } from 'vitest';
import { fromBase64, fromFrame, toBase64, toFrame } from '../../src/realtime/frames';

const text = (value: string) => {
  const bytes = new TextEncoder().encode(value);
  return [bytes.length, ...bytes];
};

describe('binary frames', () => {
  it('to the server are as messaging/PROTOCOL.md says', () => {
    const frame = toFrame({
      id: 258, persistent: true, channel: 'чат', content_type: 'image/png', filename: 'a.png', idempotency_key: 'k',
      bytes: new Uint8Array([1, 2]),
    });
    expect([...frame]).toEqual([
      0x11, 0x03, 0, 0, 1, 2, ...text('чат'), ...text('image/png'), ...text('a.png'), ...text('k'), 1, 2,
    ]);
    expect([...toFrame({ user_id: 'u', bytes: new Uint8Array() })]).toEqual([0x11, 0x04, ...text('u'), 0, 0, 0]);
    expect([...toFrame({ connection_id: 'x', bytes: new Uint8Array() })]).toEqual([0x11, 0x08, ...text('x'), 0, 0, 0]);
    expect(() => toFrame({ channel: 'ж'.repeat(128), bytes: new Uint8Array() })).toThrow(/255 bytes/);
  });

  it('from the server are messages as JSON would have brought them', () => {
    const head = [0x12, 0x02, 0, 0, 0, 0, 0, 0, 0, 7, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 1, 0x8c, 0xc2, 0x51, 0xf4, 0];
    const texts = ['m', 'c', 'image/png', 'a.png', 'u', '', 'x'].flatMap(text);
    const message = fromFrame(new Uint8Array([...head, ...texts, 1, 2, 3]).buffer);
    expect(message).toMatchObject({
      type: 'binary', channel: 'c', offset: 7, epoch: '0a0b0c0d', message_id: 'm', content_type: 'image/png',
      filename: 'a.png', size: 3, binary_data: 'AQID', persistent: true, timestamp: '2024-01-01T00:00:00.000Z',
      sender: { user_id: 'u', name: undefined, connection_id: 'x' },
    });
    expect([...(message.bytes ?? [])]).toEqual([1, 2, 3]);
  });

  it('that end within their header, or are of another version, are refused', () => {
    const whole = [0x12, 0, ...Array(20).fill(0), 5, 1];
    for (let end = 1; end <= whole.length; end++) {
      expect(() => fromFrame(new Uint8Array(whole.slice(0, end)).buffer)).toThrow(RangeError);
    }
    expect(() => fromFrame(new Uint8Array([0x21]).buffer)).toThrow(/version/);
  });
});

it('base64 goes there and back, however long', () => {
  const bytes = Uint8Array.from({ length: 100_001 }, (_, index) => index % 251);
  const again = fromBase64(toBase64(bytes));
  expect(again.length).toBe(bytes.length);
  expect(again.every((byte, index) => byte === bytes[index])).toBe(true);
});
