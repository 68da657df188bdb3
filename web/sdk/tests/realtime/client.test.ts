import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RealtimeClient, type RealtimeError } from '../../src/index';
import type { RealtimeOptions } from '../../src/realtime/client';
import { FakeEventSource, FakeRealtimeSocket as FakeSocket } from './fakes';

let client: RealtimeClient;

function make(options: RealtimeOptions = {}): RealtimeClient {
  client = new RealtimeClient('ws://server/realtime/ws', 'http://server/realtime/events', {
    openSocket: (url) => new FakeSocket(url),
    openEventSource: (url) => new FakeEventSource(url) as unknown as EventSource,
    random: () => 1,
    ...options,
  });
  return client;
}

/** Lets promises go on. */
const settle = () => vi.advanceTimersByTimeAsync(0);

async function connected(options: RealtimeOptions = {}): Promise<FakeSocket> {
  make(options).connectWebSocket();
  FakeSocket.last.welcome();
  await client.whenReady();
  return FakeSocket.last;
}

async function subscribed(channel: string, answer: object = {}): Promise<void> {
  const wish = client.subscribe(channel);
  await settle();
  FakeSocket.last.answer('subscribe', { type: 'subscribed', channel, epoch: 'aaaa0001', offset: 5, kept: 0, ...answer });
  await wish;
}

const message = (offset: number, more: object = {}) => ({
  type: 'channel_message', channel: 'c', data: offset, message_id: `m${offset}`, epoch: 'aaaa0001', offset, ...more,
});

async function cutAndBack(): Promise<void> {
  FakeSocket.last.drop();
  await vi.advanceTimersByTimeAsync(1000);
  FakeSocket.last.welcome();
  await settle();
}

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  FakeEventSource.all = [];
});

afterEach(() => {
  client.close();
  vi.useRealTimers();
});

describe('requests', () => {
  it('are answered by their id, errors by code', async () => {
    const socket = await connected();
    const one = client.publish('c', { a: 1 });
    const two = client.history('c', { limit: 3 });
    await settle();
    socket.answer('history', { type: 'history', channel: 'c', messages: [] });
    socket.answer('channel_message', { type: 'error', error: { code: 'forbidden', message: 'no' } });
    await expect(one).rejects.toMatchObject({ code: 'forbidden', message: 'no' });
    expect((await two).messages).toEqual([]);
    expect(socket.of('channel_message')[0]).toMatchObject({ channel: 'c', data: { a: 1 }, persistent: false });
  });

  it('wait for the connection, and go again over the next one with the same idempotency key', async () => {
    const first = await connected();
    const sent = client.publish('c', 'x');
    await settle();
    await cutAndBack();
    const [before, after] = [first.of('channel_message')[0], FakeSocket.last.of('channel_message')[0]];
    expect(FakeSocket.last).not.toBe(first);
    expect(after?.idempotency_key).toBe(before?.idempotency_key);
    FakeSocket.last.answer('channel_message', { type: 'published', message_id: 'm', channel: 'c', offset: 1 });
    expect(await sent).toMatchObject({ message_id: 'm' });
  });

  it('end after a while without an answer, or with the connection', async () => {
    await connected({ requestTimeout: 2000 });
    const asked = expect(client.ping()).rejects.toMatchObject({ code: 'timeout' });
    await vi.advanceTimersByTimeAsync(2000);
    await asked;
    const other = expect(client.ping()).rejects.toMatchObject({ code: 'forbidden' });
    await settle();
    FakeSocket.last.say({ type: 'error', error: { code: 'forbidden', message: 'no' } });
    FakeSocket.last.drop(4403);
    await other;
    await expect(client.whenReady()).rejects.toMatchObject({ status: 4403 });
  });

  it('that were dropped because they came too fast are sent again after a pause', async () => {
    const socket = await connected();
    const sent = client.publish('c', 'x');
    await settle();
    const [first] = socket.of('channel_message');
    socket.say({ type: 'error', error: { code: 'rate_limited', message: 'slower' } });
    await vi.advanceTimersByTimeAsync(1000);
    const heard = vi.fn();
    client.on('message', heard);
    socket.say({ type: 'published', id: first?.id, message_id: 'late' });
    socket.answer('channel_message', { type: 'published', message_id: 'm' });
    expect((await sent).message_id).toBe('m');
    expect(socket.of('channel_message')[1]?.idempotency_key).toBe(first?.idempotency_key);
    expect(heard).not.toHaveBeenCalled();
  });

  it('need a connection that was asked for', async () => {
    make();
    await expect(client.ping()).rejects.toMatchObject({ code: 'not_connected' });
    expect(client.send('x')).toBe(false);
  });
});

describe('coming back', () => {
  it('asks for what was missed since the last message that arrived, and hears it once', async () => {
    await connected();
    const heard: unknown[] = [];
    const told: string[] = [];
    client.on('channel_message', ({ data }) => heard.push(data));
    client.on('recovered', () => told.push('recovered')).on('lost', () => told.push('lost'));
    await subscribed('c');
    FakeSocket.last.say(message(6));
    FakeSocket.last.say(message(7));
    expect(client.position('c')).toEqual({ epoch: 'aaaa0001', offset: 7 });
    await cutAndBack();
    expect(client.connected).toBe(false);
    expect(FakeSocket.last.of('subscribe')[0]).toMatchObject({ recover: { epoch: 'aaaa0001', offset: 7 } });
    FakeSocket.last.answer('subscribe', { type: 'subscribed', channel: 'c', epoch: 'aaaa0001', offset: 9, recovered: true });
    FakeSocket.last.say(message(8));
    // Cut in the middle of what was missed: the position is that of what arrived, not the newest.
    await cutAndBack();
    expect(FakeSocket.last.of('subscribe')[0]).toMatchObject({ recover: { offset: 8 } });
    FakeSocket.last.answer('subscribe', { type: 'subscribed', channel: 'c', epoch: 'aaaa0001', offset: 9, recovered: true });
    await settle();
    for (const offset of [8, 9, 9]) FakeSocket.last.say(message(offset));
    expect(heard).toEqual([6, 7, 8, 9]);
    expect(told).toEqual(['recovered', 'recovered']);
    expect(client.connected).toBe(true);
  });

  it('says when what was missed is not known, and goes on from there', async () => {
    await connected();
    const lost: unknown[] = [];
    client.on('lost', ({ channel }) => lost.push(channel));
    await subscribed('c');
    await cutAndBack();
    FakeSocket.last.answer('subscribe', { type: 'subscribed', channel: 'c', epoch: 'bbbb0002', offset: 3, recovered: false });
    await settle();
    expect(lost).toEqual(['c']);
    expect(client.position('c')).toEqual({ epoch: 'bbbb0002', offset: 3 });
  });

  it('does not count kept messages as heard before they are here', async () => {
    await connected();
    await subscribed('c', { offset: 9, kept: 2 });
    expect(client.position('c')).toMatchObject({ offset: 0 });
    FakeSocket.last.say(message(3));
    expect(client.position('c')).toMatchObject({ offset: 3 });
    FakeSocket.last.say(message(5));
    expect(client.position('c')).toMatchObject({ offset: 9 });
  });

  it('does not ask again for a channel that is not given back, or was left', async () => {
    await connected();
    const errors: unknown[] = [];
    client.on('error', ({ code, channel }) => errors.push([code, channel]));
    await subscribed('c');
    await subscribed('d');
    const left = client.unsubscribe('d');
    await settle();
    FakeSocket.last.answer('unsubscribe', { type: 'unsubscribed', channel: 'd' });
    await left;
    await cutAndBack();
    expect(FakeSocket.last.of('subscribe').map(({ channel }) => channel)).toEqual(['c']);
    FakeSocket.last.answer('subscribe', { type: 'error', error: { code: 'forbidden', message: 'no more' } });
    await settle();
    expect(errors).toEqual([['forbidden', 'c']]);
    expect(client.channels).toEqual([]);
    expect(client.connected).toBe(true);
  });

  it('gives a silent connection up, which a pong saves', async () => {
    const socket = await connected();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(socket.of('ping')).toHaveLength(1);
    socket.answer('ping', { type: 'pong' });
    await vi.advanceTimersByTimeAsync(29_000);
    expect(FakeSocket.all).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(17_000);
    expect(FakeSocket.all).toHaveLength(2);
  });

  it('stays away when the server says so', async () => {
    const socket = await connected();
    socket.say({ type: 'disconnect', reason: 'banned', reconnect: false });
    socket.drop(1001);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(FakeSocket.all).toHaveLength(1);
  });
});

describe('credentials', () => {
  it('are the first message, and nothing goes before they are taken', async () => {
    make({ token: 'a.b.c' }).connectWebSocket();
    FakeSocket.last.open();
    await settle();
    expect(FakeSocket.last.sent).toEqual([{ type: 'auth', token: 'a.b.c', id: 'auth' }]);
    // A server that requires nothing welcomes before it has read who we are.
    FakeSocket.last.welcome({ authenticated: false });
    await settle();
    expect(client.connected).toBe(false);
    FakeSocket.last.welcome({ authenticated: true, user_id: 'ann' });
    await settle();
    expect(client.connected).toBe(true);
    expect(client.welcome?.user_id).toBe('ann');
  });

  it('are asked for again once when they are refused', async () => {
    const getToken = vi.fn().mockResolvedValueOnce('old').mockResolvedValueOnce('new').mockResolvedValue('newer');
    make({ getToken }).connectWebSocket();
    FakeSocket.last.open();
    await settle();
    FakeSocket.last.drop(4002);
    await vi.advanceTimersByTimeAsync(1000);
    FakeSocket.last.open();
    await settle();
    expect(FakeSocket.last.sent).toEqual([{ type: 'auth', token: 'new', id: 'auth' }]);
    FakeSocket.last.drop(4002);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(FakeSocket.all).toHaveLength(2);
    await expect(client.whenReady()).rejects.toMatchObject({ status: 4002 });
  });

  it('that are not taken where none are required end the connection', async () => {
    make({ apiKey: 'vk_wrong' }).connectWebSocket();
    FakeSocket.last.welcome({ authenticated: false });
    await settle();
    FakeSocket.last.answer('auth', { type: 'error', error: { code: 'invalid_api_key', message: 'unknown' } });
    await expect(client.whenReady()).rejects.toMatchObject({ code: 'invalid_api_key', status: 4002 });
    expect(FakeSocket.all).toHaveLength(1);
  });

  it('that mean nothing to an open server do no harm', async () => {
    make({ token: 'a.b.c' }).connectWebSocket();
    FakeSocket.last.welcome({ authenticated: false });
    await settle();
    FakeSocket.last.answer('auth', { type: 'authenticated', user_id: null });
    await client.whenReady();
  });

  it('may expire while connected', async () => {
    const getToken = vi.fn().mockResolvedValueOnce('old').mockResolvedValue('new');
    make({ getToken }).connectWebSocket();
    FakeSocket.last.open();
    await settle();
    FakeSocket.last.welcome({ authenticated: true });
    await client.whenReady();
    FakeSocket.last.drop(4002);
    await vi.advanceTimersByTimeAsync(1000);
    FakeSocket.last.open();
    await settle();
    expect(FakeSocket.last.sent).toEqual([{ type: 'auth', token: 'new', id: 'auth' }]);
  });
});

describe('what is shown', () => {
  it('can be replaced by a subclass or by assigning', async () => {
    await connected();
    const shown: unknown[] = [];
    client.showNotification = (title, body) => shown.push([title, body]);
    client.displayImage = (data) => void shown.push(data.filename);
    client.downloadFile = (data) => shown.push(data.content_type);
    FakeSocket.last.say({ type: 'notification', title: 'T', body: 'B', message_id: 'n' });
    FakeSocket.last.say({ type: 'binary', content_type: 'image/png', filename: 'a.png', binary_data: '', message_id: 'b' });
    FakeSocket.last.say({ type: 'binary', content_type: 'application/pdf', binary_data: '', message_id: 'p' });
    expect(shown).toEqual([['T', 'B'], 'a.png', 'application/pdf']);
    client.handleMessage = ({ type }) => shown.push(type);
    FakeSocket.last.say({ type: 'notification', title: 'T', body: 'B', message_id: 'n2' });
    expect(shown.at(-1)).toBe('notification');
  });

  it('is shown once, though it comes through both doors', async () => {
    await connected();
    const shown: string[] = [];
    client.showNotification = (title) => shown.push(title);
    client.connectSSE('general');
    await settle();
    FakeEventSource.last.say('notification', { type: 'notification', title: 'T', body: 'B', message_id: 'n' });
    FakeSocket.last.say({ type: 'notification', title: 'T', body: 'B', message_id: 'n' });
    expect(shown).toEqual(['T']);
  });
});

describe('server-sent events', () => {
  it('ask for channels, filters, a token, and go on where they were when the server refused for a while', async () => {
    make({ token: 'a.b.c' }).connectSSE(['a', 'b'], { binary_data: false, allowed_types: ['image/*', 'text/*'] });
    await settle();
    const { searchParams } = FakeEventSource.last.url;
    expect(searchParams.getAll('channel')).toEqual(['a', 'b']);
    expect(Object.fromEntries(searchParams)).toMatchObject({ binary_data: 'false', allowed_types: 'image/*,text/*', token: 'a.b.c' });
    const heard: unknown[] = [];
    client.on('channel_message', ({ data }) => heard.push(data));
    FakeEventSource.last.open();
    FakeEventSource.last.say('message', message(6), 'aaaa0001:6');
    FakeEventSource.last.refuse();
    await vi.advanceTimersByTimeAsync(1000);
    expect(FakeEventSource.all).toHaveLength(2);
    expect(FakeEventSource.last.url.searchParams.get('last_event_id')).toBe('aaaa0001:6');
    FakeEventSource.last.say('message', message(6), 'aaaa0001:6');
    FakeEventSource.last.say('message', message(7), 'aaaa0001:7');
    expect(heard).toEqual([6, 7]);
  });
});

it('frames are told to those who watch', async () => {
  const socket = await connected();
  const frames: string[] = [];
  client.on('frame', ({ direction, size }) => frames.push(`${direction} ${size}`));
  client.send('Привет!');
  socket.say({ type: 'echo' });
  expect(frames).toEqual(['out 13', 'in 15']);
});

it('what is no message changes nothing', async () => {
  const socket = await connected();
  const heard: unknown[] = [];
  client.on('message', (one) => heard.push(one));
  for (const data of ['', '{', 'null', '[]', '{"type":3}']) socket.onmessage?.({ data } as MessageEvent);
  expect(heard).toEqual([]);
  expect(client.connected).toBe(true);
});

it('closing is for good', async () => {
  await connected();
  const ended = new Promise<RealtimeError>((resolve) => client.on('end', resolve));
  client.close();
  expect((await ended).status).toBe(1000);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(FakeSocket.all).toHaveLength(1);
});
