import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { WebSocketClient, type WebSocketOptions } from '../../src/realtime/socket';
import { FakeRealtimeSocket as FakeSocket } from './fakes';

let waits: number[];
let ends: number;

function client(options: WebSocketOptions = {}): WebSocketClient {
  return new WebSocketClient('ws://server/', { openSocket: (url) => new FakeSocket(url), jitter: false, ...options })
    .on('reconnecting', ({ wait }) => waits.push(wait))
    .on('end', () => ends++);
}

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  waits = [];
  ends = 0;
});

afterEach(() => vi.useRealTimers());

describe('a WebSocket that comes back', () => {
  it('connects when it is made, and tells what happens, chained', () => {
    const heard: string[] = [];
    const one = client()
      .on('open', () => heard.push('open'))
      .on('message', (event) => heard.push(String(event.data)))
      .on('close', ({ code }) => heard.push(`close ${code}`))
      .on('error', () => heard.push('error'));
    expect(one.send({ type: 'hello' })).toBe(false);
    FakeSocket.last.open();
    expect(one.send({ type: 'hello', content: 'Привет!' })).toBe(true);
    expect(one.send('text')).toBe(true);
    expect(FakeSocket.last.frames).toEqual(['{"type":"hello","content":"Привет!"}', 'text']);
    FakeSocket.last.onmessage?.({ data: 'x' } as MessageEvent);
    FakeSocket.last.onerror?.({} as Event);
    FakeSocket.last.drop(1001);
    expect(heard).toEqual(['open', 'x', 'error', 'close 1001']);
    one.close();
  });

  it('waits 1 s, then 1.5 times as long each time, at most 30 s, and from the start after a success', () => {
    const one = client();
    for (let attempt = 0; attempt < 12; attempt++) {
      FakeSocket.last.drop();
      vi.advanceTimersByTime(waits.at(-1) ?? 0);
    }
    expect(waits.slice(0, 4)).toEqual([1000, 1500, 2250, 3375]);
    expect(waits.at(-1)).toBe(30_000);
    expect(FakeSocket.all).toHaveLength(13);
    FakeSocket.last.open();
    FakeSocket.last.drop();
    expect(waits.at(-1)).toBe(1000);
    one.close();
  });

  it('spreads its waits between nothing and the step', () => {
    client({ jitter: true, random: () => 0.25 });
    FakeSocket.last.drop();
    expect(waits).toEqual([250]);
  });

  it('gives up after so many attempts', () => {
    client({ maxReconnectAttempts: 2 });
    for (let attempt = 0; attempt < 3; attempt++) {
      FakeSocket.last.drop();
      vi.advanceTimersByTime(60_000);
    }
    expect(FakeSocket.all).toHaveLength(3);
    expect(ends).toBe(1);
  });

  it.each([1000, 4403])('does not come back when closed or refused: %i', (code) => {
    const one = client({ finalCodes: [4403] });
    FakeSocket.last.open();
    if (code === 1000) one.close();
    FakeSocket.last.drop(code);
    vi.advanceTimersByTime(60_000);
    expect(FakeSocket.all).toHaveLength(1);
    expect(ends).toBe(1);
  });

  it('does not hear a socket that it has let go of', () => {
    const one = client();
    const first = FakeSocket.last;
    first.open();
    one.abandon('silence');
    vi.advanceTimersByTime(1000);
    expect(FakeSocket.all).toHaveLength(2);
    expect(first.onmessage).toBeNull();
    one.close();
  });

  it('a handler that throws does not keep the others from hearing', () => {
    const error = vi.spyOn(console, 'error').mockImplementation(() => {});
    const heard = vi.fn();
    client().on('open', () => { throw new Error('mine'); }).on('open', heard);
    FakeSocket.last.open();
    expect(heard).toHaveBeenCalledOnce();
    expect(error).toHaveBeenCalledOnce();
    error.mockRestore();
  });
});
