import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LocalMedia } from '../src/media';
import type { Action } from '../src/protocol';
import { Room } from '../src/room';
import { FakeConnection, FakeSocket, joined, turns } from './fakes';

const ALL: Action[] = ['join', 'publish_audio', 'publish_video', 'publish_screen', 'publish_data', 'subscribe', 'moderate'];
const info = { room_id: 'r', name: 'Tea', max_participants: 50, locked: false, waiting_room: true };
const media = (kind: string) => ({ kind, addEventListener() {}, stop() {}, getSettings: () => ({}) }) as unknown as MediaStreamTrack;

let room: Room;
let connected: Promise<void>;

async function join(change: Parameters<typeof joined>[0] = {}): Promise<void> {
  FakeSocket.last.say(joined({ grants: ALL, ...change }));
  await turns();
}

/** The server names our track in section `mid`, muted or not. */
function named(trackId: string, mid: string, kind: 'audio' | 'video', muted = false): void {
  const source = kind === 'audio' ? 'microphone' : 'camera';
  const track = { track_id: trackId, mid, kind, source, muted } as const;
  FakeSocket.last.say({ signal_type: 'track', peer_id: 'me', track });
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('MediaStream', class { readonly id = 'stream'; });
  FakeSocket.all = [];
  FakeConnection.all = [];
  room = new Room({
    openSocket: (url) => new FakeSocket(url),
    createConnection: () => new FakeConnection() as unknown as RTCPeerConnection,
    random: () => 1,
  });
  connected = room.connect('https://server', { room: 'r', peerId: 'me' });
  connected.catch(() => {});
});

afterEach(() => {
  room.leave();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe('a moderator', () => {
  it('asks by signals, each answered on its own', async () => {
    await join();
    const muted = room.moderation.mute('bob', { source: 'camera' });
    const banned = room.moderation.ban({ userId: 'eve' }, 'noise');
    const [first, second] = FakeSocket.last.of('moderate');
    expect(first).toEqual({ signal_type: 'moderate', id: first?.id, action: 'mute', peer_id: 'bob', source: 'camera' });
    expect(second).toEqual({ signal_type: 'moderate', id: second?.id, action: 'ban', user_id: 'eve', reason: 'noise' });
    const error = { code: 'forbidden', message: 'not yours' };
    FakeSocket.last.say({ signal_type: 'error', error, id: second?.id });
    FakeSocket.last.say({ signal_type: 'done', id: first?.id });
    await expect(muted).resolves.toBeUndefined();
    await expect(banned).rejects.toMatchObject(error);
  });

  it('has a word for everything that the protocol knows', async () => {
    await join();
    const { moderation } = room;
    const asked = [
      moderation.mute('b', { trackId: 'T' }), moderation.remove('b', 'off topic'), moderation.ban({ peerId: 'b' }),
      moderation.unban({ peerId: 'b' }), moderation.grant('b', ['join']), moderation.lock(true),
      moderation.setWaitingRoom(true), moderation.admit('c'), moderation.deny('d'),
    ];
    const sent = FakeSocket.last.of('moderate').map((wish) => {
      FakeSocket.last.say({ signal_type: 'done', id: wish.id });
      return { ...wish, signal_type: undefined, id: undefined };
    });
    expect(sent).toEqual([
      { action: 'mute', peer_id: 'b', track_id: 'T' },
      { action: 'remove', peer_id: 'b', reason: 'off topic' },
      { action: 'ban', peer_id: 'b' },
      { action: 'unban', peer_id: 'b' },
      { action: 'grant', peer_id: 'b', grants: ['join'] },
      { action: 'lock', locked: true },
      { action: 'waiting-room', enabled: true },
      { action: 'admit', peer_id: 'c' },
      { action: 'deny', peer_id: 'd' },
    ]);
    await Promise.all(asked);
  });

  it('is told when nobody answers, or nobody can', async () => {
    await expect(room.moderation.lock(true)).rejects.toMatchObject({ code: 'not_connected' });
    await join();
    const late = expect(room.moderation.lock(true)).rejects.toMatchObject({ code: 'unanswered' });
    await vi.advanceTimersByTimeAsync(10_000);
    await late;
    const cut = expect(room.moderation.lock(true)).rejects.toMatchObject({ code: 'not_connected' });
    FakeSocket.last.drop(1006);
    await cut;
    expect(FakeSocket.all[0]?.of('moderate')).toHaveLength(2);
  });

  it('never takes an answer about an offer for one about a wish', async () => {
    await join();
    const wish = room.moderation.lock(true);
    const [offer] = FakeSocket.last.of('offer');
    const [asked] = FakeSocket.last.of('moderate');
    expect(asked?.id).not.toBe(offer?.id);
    FakeSocket.last.say({ signal_type: 'error', error: { code: 'forbidden', message: '' }, id: asked?.id });
    await expect(wish).rejects.toMatchObject({ code: 'forbidden' });
    await turns();
    expect(FakeSocket.last.of('offer')).toHaveLength(1);
    FakeSocket.last.say({ signal_type: 'answer', sdp: 'answer', id: offer?.id });
    await turns();
    expect(FakeConnection.last.remoteDescription).not.toBeNull();
  });

  it('sees who waits, until moderating is taken', async () => {
    await join();
    const told: string[][] = [];
    room.on('waiting', (waiting) => told.push(waiting.map(({ peerId }) => peerId)));
    const waiting = [{ peer_id: 'c', name: 'Carl', user_id: 'carl' }, { peer_id: 'd', name: 'Dora' }];
    FakeSocket.last.say({ signal_type: 'waiting-list', waiting });
    expect(room.moderation.waiting).toEqual([
      { peerId: 'c', name: 'Carl', userId: 'carl' },
      { peerId: 'd', name: 'Dora', userId: undefined },
    ]);
    FakeSocket.last.say({ signal_type: 'grants', grants: ['join'] });
    expect(room.moderation.waiting).toEqual([]);
    expect(told).toEqual([['c', 'd'], []]);
  });
});

describe('who must wait', () => {
  it('is told so, and joins when let in', async () => {
    const states: string[] = [];
    room.on('state', (state) => states.push(state));
    expect(new URL(FakeSocket.last.address).searchParams.get('peer_id')).toBe('me');
    FakeSocket.last.say({ signal_type: 'waiting', peer_id: 'me', room: info });
    expect(room.state).toBe('waiting');
    expect(room.info?.name).toBe('Tea');
    expect(FakeConnection.all).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(FakeSocket.all).toHaveLength(1);
    await join();
    await connected;
    expect(states).toEqual(['waiting', 'connected']);
    expect(FakeConnection.all).toHaveLength(1);
  });

  it('is told when not let in', async () => {
    FakeSocket.last.say({ signal_type: 'waiting', peer_id: 'me', room: info });
    FakeSocket.last.say({ signal_type: 'error', error: { code: 'not_admitted', message: 'no' } });
    FakeSocket.last.drop(4403);
    await expect(connected).rejects.toMatchObject({ code: 'not_admitted' });
  });

  it('goes on knocking when the line breaks', async () => {
    FakeSocket.last.say({ signal_type: 'waiting', peer_id: 'me', room: info });
    for (let attempt = 0; attempt < 6; attempt++) {
      FakeSocket.last.drop(1006);
      expect(room.state).toBe('connecting');
      await vi.advanceTimersByTimeAsync(10_000);
    }
    FakeSocket.last.say({ signal_type: 'waiting', peer_id: 'me', room: info });
    expect(room.state).toBe('waiting');
  });

  it('may have been in the room before, for too long ago', async () => {
    await join();
    FakeSocket.last.drop(1006);
    vi.advanceTimersByTime(300);
    FakeSocket.last.say({ signal_type: 'waiting', peer_id: 'me', room: info });
    expect(room.state).toBe('waiting');
    expect(FakeConnection.last.closed).toBe(true);
    await join();
    expect(room.state).toBe('connected');
    expect(FakeConnection.all).toHaveLength(2);
  });
});

describe('who is moderated', () => {
  let local: LocalMedia;
  let granted: Action[][];

  beforeEach(async () => {
    local = new LocalMedia();
    vi.stubGlobal('navigator', {
      mediaDevices: {
        getUserMedia: async ({ audio, video }: MediaStreamConstraints) => {
          const tracks = [audio && media('audio'), video && media('video')].filter(Boolean) as MediaStreamTrack[];
          const of = (kind: string) => tracks.filter((track) => track.kind === kind);
          return { getTracks: () => tracks, getAudioTracks: () => of('audio'), getVideoTracks: () => of('video') };
        },
      },
    });
    granted = [];
    room.on('grants', (grants) => granted.push([...grants]));
    local.attach(room);
    await local.openBoth();
  });

  async function publish(): Promise<void> {
    await join();
    FakeSocket.last.say({ signal_type: 'answer', sdp: 'answer', id: FakeSocket.last.of('offer').at(-1)?.id });
    await turns();
    named('A', '0', 'audio');
    named('V', '1', 'video');
  }

  it('is off here too, and does not unmute itself', async () => {
    await publish();
    const told: unknown[] = [];
    room.on('moderated', (event) => told.push(event));
    FakeSocket.last.say({ signal_type: 'moderated', action: 'mute', by: 'ann', track_ids: ['A'] });
    named('A', '0', 'audio', true);
    await turns();
    expect(told).toEqual([{ by: 'ann', sources: ['microphone'] }]);
    expect(local.get('microphone').on).toBe(false);
    expect(local.get('camera').on).toBe(true);
    expect(FakeSocket.last.of('mute').filter(({ muted }) => !muted)).toEqual([]);
    await local.setMicrophone(true);
    expect(FakeSocket.last.of('mute').at(-1)).toEqual({ signal_type: 'mute', track_id: 'A', muted: false });
  });

  it('sends nothing of what was taken, and everything else', async () => {
    await publish();
    FakeSocket.last.say({ signal_type: 'grants', grants: ['join', 'publish_audio'] });
    named('V', '1', 'video', true);
    await turns();
    expect(granted.at(-1)).toEqual(['join', 'publish_audio']);
    expect(room.moderation.mayPublish('camera')).toBe(false);
    expect(local.get('camera')).toMatchObject({ on: false, media: null });
    expect(local.get('microphone').on).toBe(true);
    expect(FakeSocket.last.of('mute').filter(({ muted }) => !muted)).toEqual([]);
  });

  it('joins with what may be sent only', async () => {
    await join({ grants: ['join', 'publish_video', 'subscribe'] });
    expect(local.get('microphone').on).toBe(false);
    expect(local.get('camera').on).toBe(true);
    expect(room.grants).toEqual(['join', 'publish_video', 'subscribe']);
    expect(room.moderation.may('moderate')).toBe(false);
  });
});
