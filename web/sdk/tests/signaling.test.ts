import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Backoff } from '../src/backoff';
import { Signaling } from '../src/signaling';
import { FakeSocket, joined } from './fakes';

let signaling: Signaling;
let closed: string[];
let downs: number[];

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  closed = [];
  downs = [];
  signaling = new Signaling(() => 'ws://server/', { openSocket: (url) => new FakeSocket(url), random: () => 1 });
  signaling.on('closed', ({ code }) => closed.push(code));
  signaling.on('down', ({ retryInMs }) => downs.push(retryInMs));
  signaling.start();
});

afterEach(() => {
  signaling.stop(false);
  vi.useRealTimers();
});

describe('signaling', () => {
  it('sends nothing before the server has let it in', () => {
    expect(signaling.send({ signal_type: 'ping' })).toBe(false);
    FakeSocket.last.say(joined());
    expect(signaling.send({ signal_type: 'ping' })).toBe(true);
  });

  it('pings every ten seconds and gives a silent connection up', () => {
    const first = FakeSocket.last;
    first.say(joined());
    vi.advanceTimersByTime(10_000);
    expect(first.of('ping')).toHaveLength(1);
    first.say({ signal_type: 'pong' });
    vi.advanceTimersByTime(20_000);
    expect(FakeSocket.all).toHaveLength(1);
    vi.advanceTimersByTime(2_300);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('comes back with growing waits, and from the start after it stood for a while', () => {
    FakeSocket.last.say(joined());
    for (let attempt = 0; attempt < 8; attempt++) {
      FakeSocket.last.drop(1006);
      vi.advanceTimersByTime(downs.at(-1) ?? 0);
    }
    expect(downs).toEqual([250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    FakeSocket.last.say(joined());
    vi.advanceTimersByTime(9_000);
    FakeSocket.last.drop(1001);
    expect(downs.at(-1)).toBe(10_000);
    vi.advanceTimersByTime(10_000);
    FakeSocket.last.say(joined());
    vi.advanceTimersByTime(10_000);
    FakeSocket.last.drop(1001);
    expect(downs.at(-1)).toBe(250);
  });

  it('tries at once when the network is back', () => {
    FakeSocket.last.drop(1006);
    FakeSocket.last.drop(1006);
    expect(FakeSocket.all).toHaveLength(1);
    signaling.wake('visible');
    expect(FakeSocket.all).toHaveLength(2);
    vi.advanceTimersByTime(7_000);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('doubts a standing connection after waking, and trusts it after a pong', () => {
    FakeSocket.last.say(joined());
    signaling.wake('visible');
    FakeSocket.last.say({ signal_type: 'pong' });
    vi.advanceTimersByTime(5_000);
    expect(FakeSocket.all).toHaveLength(1);
    signaling.wake('visible');
    vi.advanceTimersByTime(3_300);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it.each([
    [4423, 'room_full'],
    [4440, 'replaced'],
    [4001, 'unauthorized'],
    [4002, 'unauthorized'],
  ])('does not come back after %i', (code, name) => {
    FakeSocket.last.drop(code);
    vi.advanceTimersByTime(60_000);
    expect(closed).toEqual([name]);
    expect(FakeSocket.all).toHaveLength(1);
  });

  it.each([
    [4403, 'removed', 'removed'],
    [4403, 'banned', 'banned'],
    [4403, 'not_admitted', 'not_admitted'],
    [4403, 'forbidden_origin', 'forbidden'],
    [4403, 'peer_not_found', 'forbidden'],
    [4423, 'room_locked', 'room_locked'],
    [4423, 'room_full', 'room_full'],
  ])('closed with %i after the error %s is over as %s', (code, error, name) => {
    FakeSocket.last.say({ signal_type: 'error', error: { code: error, message: 'why' } });
    FakeSocket.last.drop(code);
    expect(closed).toEqual([name]);
  });

  it('waits to be let in for as long as it takes, and knocks again where the network changed', () => {
    const room = { room_id: 'r', name: 'r', max_participants: 50, locked: false, waiting_room: true };
    FakeSocket.last.say({ signal_type: 'waiting', peer_id: 'me', room });
    vi.advanceTimersByTime(3_600_000);
    signaling.wake('visible');
    expect(FakeSocket.all).toHaveLength(1);
    expect(signaling.send({ signal_type: 'ping' })).toBe(false);
    signaling.wake('online');
    expect(FakeSocket.last.readyState).toBe(3);
    vi.advanceTimersByTime(300);
    expect(FakeSocket.all).toHaveLength(2);
    // The new connection has as little time as any until the server says something.
    vi.advanceTimersByTime(8_600);
    expect(FakeSocket.all).toHaveLength(3);
  });

  it.each([1001, 1006, 1009, 4408, 4413, 4424, 4429])('comes back after %i', (code) => {
    FakeSocket.last.drop(code);
    vi.advanceTimersByTime(10_000);
    expect(closed).toEqual([]);
    expect(FakeSocket.all.length).toBeGreaterThan(1);
  });

  it.each([{ from_peer_id: '' }, { target_peer_id: 'me' }, { from_peer_id: 'eve', target_peer_id: 'me' }])(
    'does not take a message with %j for the server\'s',
    (marks) => {
      const heard: string[] = [];
      signaling.on('message', () => heard.push('server'));
      signaling.on('peer', () => heard.push('peer'));
      FakeSocket.last.say({ ...joined(), ...marks } as never);
      expect(heard).toEqual([]);
      expect(signaling.up).toBe(false);
      FakeSocket.last.say(joined());
      FakeSocket.last.say({ signal_type: 'answer', sdp: 'x', ...marks } as never);
      expect(heard).toEqual(['server', 'peer']);
    },
  );

  it('waits longer when it was too fast', () => {
    FakeSocket.last.drop(4429);
    expect(downs).toEqual([5_000]);
  });

  it('ignores what is not a message', () => {
    const heard: unknown[] = [];
    signaling.on('message', (message) => heard.push(message));
    for (const data of ['', '{', 'null', '[]', '{"signal_type":3}']) {
      FakeSocket.last.onmessage?.({ data } as MessageEvent);
    }
    expect(heard).toEqual([]);
  });
});

it('waits are spread', () => {
  expect(new Backoff(() => 0).next()).toBe(125);
  expect(new Backoff(() => 1).next()).toBe(250);
});
