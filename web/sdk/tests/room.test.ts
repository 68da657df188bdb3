import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Room } from '../src/room';
import type { Participant } from '../src/protocol';
import { FakeConnection, FakeSocket, joined, turns } from './fakes';

const camera = { kind: 'video', id: 'camera' } as MediaStreamTrack;
const microphone = { kind: 'audio', id: 'microphone' } as MediaStreamTrack;
let room: Room;

function person(peerId: string): Participant {
  return {
    peer_id: peerId,
    name: peerId.toUpperCase(),
    connected: true,
    quality: 'excellent',
    tracks: [
      { track_id: `${peerId}-a`, mid: '0', kind: 'audio', source: 'microphone', muted: false },
      { track_id: `${peerId}-v`, mid: '1', kind: 'video', source: 'camera', muted: false },
    ],
  };
}

/** Answers the last offer. */
async function answer(): Promise<void> {
  const offer = FakeSocket.last.of('offer').at(-1);
  FakeSocket.last.say({ signal_type: 'answer', sdp: 'answer', id: offer?.id });
  await turns();
}

async function join(change: Parameters<typeof joined>[0] = {}): Promise<void> {
  FakeSocket.last.say(joined(change));
  await turns();
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
  void room.connect('https://server', { room: 'r', name: 'Мария', resumeToken: 'old' }).catch(() => {});
});

afterEach(() => {
  room.leave();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe('joining', () => {
  it('asks by the address', () => {
    const address = new URL(FakeSocket.last.address);
    expect(address.protocol + address.pathname).toBe('wss:/realtime/webrtc/signaling');
    expect(Object.fromEntries(address.searchParams)).toEqual({ room_id: 'r', name: 'Мария', resume_token: 'old' });
  });

  it('offers tracks and slots at once, and says what they are', async () => {
    room.publish(microphone, { source: 'microphone' });
    room.publish(camera, { source: 'camera', muted: true });
    await join();
    const [offer] = FakeSocket.last.of('offer');
    expect(FakeSocket.last.of('offer')).toHaveLength(1);
    expect(offer?.tracks).toEqual([
      { mid: '0', source: 'microphone', muted: false },
      { mid: '1', source: 'camera', muted: true },
    ]);
    expect(offer?.pairs).toHaveLength(4);
    const kinds = new Map(FakeConnection.last.transceivers.map(({ mid, kind }) => [mid, kind]));
    for (const { audio, video } of offer?.pairs ?? []) {
      expect([kinds.get(audio), kinds.get(video)]).toEqual(['audio', 'video']);
    }
  });

  it('rejects when the room is full', async () => {
    const other = new Room({ openSocket: (url) => new FakeSocket(url) });
    const connected = other.connect('http://server', { room: 'r' });
    FakeSocket.last.say({ signal_type: 'error', error: { code: 'room_full', message: 'no place' } });
    FakeSocket.last.drop(4423);
    await expect(connected).rejects.toMatchObject({ code: 'room_full', message: 'no place' });
    expect(other.state).toBe('closed');
  });

  it('rejects when nobody answers', async () => {
    const other = new Room({ openSocket: (url) => new FakeSocket(url), random: () => 1 });
    const connected = other.connect('http://server', { room: 'r' });
    const refused = expect(connected).rejects.toMatchObject({ code: 'unreachable' });
    for (let attempt = 0; attempt < 3; attempt++) {
      FakeSocket.last.drop(1006);
      vi.advanceTimersByTime(2_000);
    }
    await refused;
  });
});

describe('an unreachable server', () => {
  async function failsAfter(options: { resumeToken?: string; resumeSeconds?: number }): Promise<number> {
    const other = new Room({ openSocket: (url) => new FakeSocket(url), random: () => 1 });
    const begun = performance.now();
    const failed = other.connect('http://server', { room: 'r', ...options }).then(
      () => Number.NaN,
      () => performance.now() - begun,
    );
    while (other.state === 'connecting') {
      FakeSocket.last.drop(1006);
      await vi.advanceTimersByTimeAsync(100);
    }
    return failed;
  }

  it('is tried for as long as a place is kept there, and else only shortly', async () => {
    expect(await failsAfter({})).toBeLessThan(2_000);
    const kept = await failsAfter({ resumeToken: 'x', resumeSeconds: 20 });
    expect(kept).toBeGreaterThanOrEqual(20_000);
    expect(kept).toBeLessThan(31_000);
  });

  it('that has no place is quoted', async () => {
    const other = new Room({ openSocket: (url) => new FakeSocket(url), random: () => 1 });
    const refused = expect(other.connect('http://server', { room: 'r' })).rejects.toMatchObject({ code: 'too_many_rooms' });
    for (let attempt = 0; attempt < 3; attempt++) {
      FakeSocket.last.say({ signal_type: 'error', error: { code: 'too_many_rooms', message: '' } });
      FakeSocket.last.drop(4424);
      vi.advanceTimersByTime(2_000);
    }
    await refused;
  });
});

describe('offers', () => {
  it('never overlap: wishes during one become one more', async () => {
    await join();
    room.publish(microphone, { source: 'microphone' });
    await turns();
    room.publish(camera, { source: 'camera' });
    await turns();
    expect(FakeSocket.last.of('offer')).toHaveLength(1);
    await answer();
    const offers = FakeSocket.last.of('offer');
    expect(offers).toHaveLength(2);
    expect(offers[1]?.tracks?.map((track) => track.source)).toEqual(['microphone', 'camera']);
    await answer();
    expect(FakeSocket.last.of('offer')).toHaveLength(2);
  });

  it('that are refused are taken back and made anew, but not for ever', async () => {
    await join();
    for (let round = 0; round < 8; round++) {
      const id = FakeSocket.last.of('offer').at(-1)?.id;
      FakeSocket.last.say({ signal_type: 'error', error: { code: 'bad_offer', message: 'line 7' }, id });
      await turns();
      await vi.advanceTimersByTimeAsync(7_000);
    }
    expect(FakeSocket.last.of('offer')).toHaveLength(4);
    expect(room.state).toBe('connected');
  });

  it('that were out when signaling broke are sent again as they were', async () => {
    await join();
    const [first] = FakeSocket.last.of('offer');
    FakeSocket.last.drop(1006);
    vi.advanceTimersByTime(300);
    expect(new URL(FakeSocket.last.address).searchParams.get('resume_token')).toBe('token-1');
    await join({ resumed: true, resume_token: 'token-2' });
    expect(FakeSocket.last.of('offer')).toEqual([first]);
    expect(FakeConnection.all).toHaveLength(1);
  });

  it('end a screen share by stopping its section', async () => {
    await join();
    room.publish(camera, { source: 'screen' });
    await turns();
    await answer();
    await answer();
    room.unpublish('screen');
    await turns();
    expect(FakeConnection.last.transceivers.some((transceiver) => transceiver.stopped)).toBe(true);
    expect(FakeSocket.last.of('offer').at(-1)?.tracks).toEqual([]);
  });
});

describe('answers', () => {
  it('count only with the id of the offer that is out', async () => {
    await join();
    const id = FakeSocket.last.of('offer')[0]?.id ?? 0;
    FakeSocket.last.say({ signal_type: 'answer', sdp: 'forged' });
    FakeSocket.last.say({ signal_type: 'answer', sdp: 'late', id: id + 1 });
    await turns();
    expect(FakeConnection.last.remoteDescription).toBeNull();
    await answer();
    expect(FakeConnection.last.remoteDescription).not.toBeNull();
  });

  it('to a connection before are not taken for answers to this one', async () => {
    await join();
    await answer();
    const first = FakeSocket.last.of('offer')[0]?.id;
    FakeSocket.last.say({ signal_type: 'connection', state: 'failed' });
    await vi.advanceTimersByTimeAsync(1_100);
    await turns();
    const second = FakeSocket.last.of('offer').at(-1)?.id;
    expect(second).not.toBe(first);
    FakeSocket.last.say({ signal_type: 'answer', sdp: 'late', id: first });
    await turns();
    expect(FakeConnection.last.remoteDescription).toBeNull();
  });

  it('let what is said right after them count, even while they are being applied', async () => {
    await join({ participants: [person('bob')] });
    const offer = FakeSocket.last.of('offer')[0];
    const video = offer?.pairs?.[0]?.video ?? '';
    FakeSocket.last.say({ signal_type: 'answer', sdp: 'answer', id: offer?.id });
    FakeSocket.last.say({ signal_type: 'slots', slots: [{ mid: video, peer_id: 'bob', track_id: 'bob-v' }] });
    await turns();
    expect(room.participants[0]?.tracks[1]?.slot?.mid).toBe(video);
  });
});

describe('offers that are in trouble', () => {
  const refuse = async (code: string) => {
    const id = FakeSocket.last.of('offer').at(-1)?.id;
    FakeSocket.last.say({ signal_type: 'error', error: { code, message: 'why' }, id });
    await turns();
  };

  it('are not taken back for an error about a message to another client', async () => {
    await join();
    await refuse('peer_not_found');
    expect(FakeConnection.last.signalingState).toBe('have-local-offer');
    await refuse('offer_invalid');
    expect(FakeConnection.last.signalingState).toBe('stable');
  });

  it('are told once after the last refusal, and forgiven when a new path is looked for', async () => {
    const codes: string[] = [];
    await join();
    await answer();
    room.on('error', ({ code }) => codes.push(code));
    room.publish(camera, { source: 'camera' });
    await turns();
    for (let round = 0; round < 4; round++) {
      await refuse('offer_invalid');
      await vi.advanceTimersByTimeAsync(7_000);
    }
    expect(codes.filter((code) => code === 'offers_refused')).toHaveLength(1);
    const count = FakeSocket.last.of('offer').length;
    FakeSocket.last.say({ signal_type: 'connection', state: 'expired' });
    await turns();
    expect(FakeSocket.last.of('offer')).toHaveLength(count + 1);
  });

  it('are dropped when the server closes because they are too large', async () => {
    await join();
    const first = FakeSocket.last.of('offer')[0]?.id;
    FakeSocket.last.drop(4413);
    await turns();
    expect(FakeConnection.last.signalingState).toBe('stable');
    vi.advanceTimersByTime(300);
    await join({ resumed: true });
    expect(FakeSocket.last.of('offer')).toEqual([]);
    await vi.advanceTimersByTimeAsync(1_000);
    await turns();
    expect(FakeSocket.last.of('offer')[0]?.id).not.toBe(first);
  });
});

describe('slots', () => {
  it('carry what the server says, and nothing once it is gone', async () => {
    await join({ participants: [person('bob')] });
    await answer();
    const video = FakeSocket.last.of('offer')[0]?.pairs?.[0]?.video ?? '';
    FakeSocket.last.say({
      signal_type: 'slots',
      slots: [{ mid: video, peer_id: 'bob', track_id: 'bob-v', rtp_timestamp: 4_000_000_000 }],
    });
    const shown = () => room.participants[0]?.tracks.find((track) => track.source === 'camera');
    expect(shown()?.slot).toMatchObject({ mid: video, rtpTimestamp: 4_000_000_000 });
    FakeSocket.last.say({ signal_type: 'slots', slots: [{ mid: video, reason: 'displaced' }] });
    expect(shown()?.slot).toBeUndefined();
  });

  it('that cannot be decoded say why', async () => {
    await join({ participants: [person('bob')] });
    await answer();
    const video = FakeSocket.last.of('offer')[0]?.pairs?.[0]?.video ?? '';
    const slot = { mid: video, peer_id: 'bob', track_id: 'bob-v', reason: 'no-common-codec' } as const;
    FakeSocket.last.say({ signal_type: 'slots', slots: [slot] });
    expect(room.participants[0]?.tracks[1]).toMatchObject({ reason: 'no-common-codec' });
    expect(room.participants[0]?.tracks[1]?.slot).toBeUndefined();
  });

  it('that the network does not carry say so, keep the last picture of theirs and never show one of others', async () => {
    await join({ participants: [person('ann'), person('bob')] });
    await answer();
    const mid = FakeSocket.last.of('offer')[0]?.pairs?.[0]?.video ?? '';
    const tell = (change: object) => FakeSocket.last.say({ signal_type: 'slots', slots: [{ mid, rtp_timestamp: 5, ...change }] });
    const picture = (index: number) => room.participants[index]?.tracks.find((track) => track.source === 'camera');
    const [ann, bob] = [{ peer_id: 'ann', track_id: 'ann-v' }, { peer_id: 'bob', track_id: 'bob-v' }];
    tell(ann);
    expect(picture(0)).toMatchObject({ slot: { mid } });
    expect(picture(0)?.paused).toBeUndefined();
    tell({ ...ann, reason: 'bandwidth' });
    expect(picture(0)).toMatchObject({ paused: 'bandwidth', slot: { mid } });
    tell({ ...bob, reason: 'bandwidth' });
    expect(picture(0)?.paused).toBeUndefined();
    expect(picture(1)).toMatchObject({ paused: 'bandwidth', reason: 'bandwidth' });
    expect(picture(1)?.slot).toBeUndefined();
    tell(bob);
    expect(picture(1)).toMatchObject({ slot: { mid } });
    expect(picture(1)?.paused).toBeUndefined();
    // The sound of theirs has nothing to do with it.
    expect(room.audioStreams).toHaveLength(4);
  });

  it('of a connection that is not answered yet are those of the one before', async () => {
    await join({ participants: [person('bob')] });
    const mid = FakeSocket.last.of('offer')[0]?.pairs?.[0]?.video ?? '';
    const slots = [{ mid, peer_id: 'bob', track_id: 'bob-v' }];
    FakeSocket.last.say({ signal_type: 'slots', slots });
    expect(room.participants[0]?.tracks[1]?.slot).toBeUndefined();
    FakeSocket.last.drop(1006);
    vi.advanceTimersByTime(300);
    await join({ resumed: true, participants: [person('bob')], slots });
    expect(room.participants[0]?.tracks[1]?.slot).toBeUndefined();
    await answer();
    FakeSocket.last.say({ signal_type: 'slots', slots });
    expect(room.participants[0]?.tracks[1]?.slot?.mid).toBe(mid);
  });

  it('that a departed person had are empty before the server says so', async () => {
    await join({ participants: [person('bob'), person('eve')] });
    await answer();
    const video = FakeSocket.last.of('offer')[0]?.pairs?.[0]?.video ?? '';
    FakeSocket.last.say({ signal_type: 'slots', slots: [{ mid: video, peer_id: 'bob', track_id: 'bob-v' }] });
    const left: string[] = [];
    room.on('participant-left', ({ name }) => left.push(name));
    FakeSocket.last.say({ signal_type: 'participant-left', peer_id: 'bob', reason: 'timed-out' });
    expect(left).toEqual(['BOB']);
    expect(room.participants.map((one) => one.peerId)).toEqual(['eve']);
  });

  it('for sound are there to be played as soon as they are agreed on', async () => {
    const heard: number[] = [];
    room.on('participants', () => heard.push(room.audioStreams.length));
    await join();
    expect(heard.at(-1)).toBe(0);
    await answer();
    expect(heard.at(-1)).toBe(4);
  });

  it('are added in batches when the room grows', async () => {
    await join();
    await answer();
    const count = () => FakeConnection.last.transceivers.length;
    expect(count()).toBe(8);
    for (const name of ['a', 'b', 'c']) {
      FakeSocket.last.say({ signal_type: 'participant-joined', participant: person(name) });
    }
    expect(count()).toBe(8);
    FakeSocket.last.say({ signal_type: 'participant-joined', participant: person('d') });
    expect(count()).toBe(16);
    await turns();
    await answer();
    expect(FakeSocket.last.of('offer')).toHaveLength(2);
  });

  it('are told the size they are shown at, and to stop when nobody looks', async () => {
    await join({ participants: [person('bob')] });
    await answer();
    const video = FakeSocket.last.of('offer')[0]?.pairs?.[0]?.video ?? '';
    FakeSocket.last.say({ signal_type: 'slots', slots: [{ mid: video, peer_id: 'bob', track_id: 'bob-v' }] });
    room.setShownSize('bob-v', { width: 300, height: 200 });
    room.setShownSize('bob-v', { width: 310, height: 210 });
    room.pin(['bob']);
    vi.advanceTimersByTime(250);
    const said = FakeSocket.last.of('subscribe');
    expect(said.at(-1)).toMatchObject({ mode: 'auto', pinned: ['bob'], slots: [{ mid: video, width: 320, height: 224 }] });
    vi.advanceTimersByTime(5_000);
    expect(FakeSocket.last.of('subscribe')).toHaveLength(said.length);
  });
});

describe('layers of our own', () => {
  const layers = (...wanted: string[]) => ['q', 'h', 'f'].map((rid) => ({ rid, active: wanted.includes(rid) }));
  const sender = () => FakeConnection.last.transceivers[0]!.sender;

  beforeEach(() => room.publish(camera, { source: 'camera' }));

  it('that nobody wants are not sent, while the track stays published', async () => {
    await join();
    await answer();
    expect(sender().active).toEqual([true, true, true]);
    FakeSocket.last.say({ signal_type: 'layers', mid: '0', layers: layers() });
    FakeSocket.last.say({ signal_type: 'layers', mid: '9', layers: layers('q') });
    await turns();
    expect(sender().active).toEqual([false, false, false]);
    expect(room.localTracks).toHaveLength(1);
    expect(FakeConnection.last.transceivers[0]?.stopped).toBe(false);
    FakeSocket.last.say({ signal_type: 'layers', mid: '0', layers: layers('q', 'h') });
    await turns();
    expect(sender().active).toEqual([true, true, false]);
  });

  it('stay so over another camera, a negotiation and a loss of signaling', async () => {
    await join();
    await answer();
    FakeSocket.last.say({ signal_type: 'layers', mid: '0', layers: layers('q') });
    await turns();
    const asIfNew = () => sender().encodings.forEach((encoding) => (encoding.active = true));
    asIfNew();
    room.publish({ kind: 'video', id: 'other' } as MediaStreamTrack, { source: 'camera' });
    await turns();
    expect(sender().active).toEqual([true, false, false]);
    asIfNew();
    room.publish(microphone, { source: 'microphone' });
    await turns();
    await answer();
    expect(sender().active).toEqual([true, false, false]);
    FakeSocket.last.drop(1006);
    vi.advanceTimersByTime(300);
    await join({ resumed: true });
    FakeSocket.last.say({ signal_type: 'layers', mid: '0', layers: layers('q', 'f') });
    await turns();
    expect(FakeConnection.all).toHaveLength(1);
    expect(sender().active).toEqual([true, false, true]);
  });

  it('are all sent over a new connection, whatever was said of the one before', async () => {
    await join();
    await answer();
    FakeSocket.last.say({ signal_type: 'layers', mid: '0', layers: layers('q') });
    FakeSocket.last.say({ signal_type: 'connection', state: 'failed' });
    await vi.advanceTimersByTimeAsync(1_100);
    await turns();
    expect(FakeConnection.all).toHaveLength(2);
    FakeSocket.last.say({ signal_type: 'layers', mid: '0', layers: layers() });
    await turns();
    expect(sender().active).toEqual([true, true, true]);
  });
});

describe('people', () => {
  it('who came or left while we were away are told', async () => {
    await join({ participants: [person('bob'), person('eve')] });
    const told: string[] = [];
    room.on('participant-left', ({ peerId }) => told.push(`-${peerId}`));
    room.on('participant-joined', ({ peerId }) => told.push(`+${peerId}`));
    FakeSocket.last.drop(1006);
    vi.advanceTimersByTime(300);
    await join({ resumed: true, participants: [person('eve'), person('ida')] });
    expect(told).toEqual(['-bob', '+ida']);
  });

  it('who are not there are not made up by an update, and our own is about ourselves', async () => {
    await join({ participants: [person('bob')] });
    const told: string[] = [];
    room.on('self', () => told.push(room.name));
    FakeSocket.last.say({ signal_type: 'participant-updated', participant: { ...person('me'), metadata: { hand: 1 } } });
    FakeSocket.last.say({ signal_type: 'participant-updated', participant: person('ghost') });
    FakeSocket.last.say({ signal_type: 'participant-updated', participant: { ...person('bob'), name: 'Robert' } });
    expect(told).toEqual(['ME']);
    expect(room.metadata).toEqual({ hand: 1 });
    expect(room.participants.map(({ name }) => name)).toEqual(['Robert']);
  });
});

describe('other clients', () => {
  it('are heard, but do not speak for the server', async () => {
    await join({ participants: [person('eve')] });
    await answer();
    const heard: unknown[] = [];
    room.on('peer-message', (message) => heard.push(message.signal_type));
    const forged = { ...joined({ peer_id: 'eve-owns-me' }), target_peer_id: 'me', from_peer_id: 'eve' };
    FakeSocket.last.say(forged as never);
    await turns();
    expect(heard).toEqual(['joined']);
    expect(room.peerId).toBe('me');
    expect(FakeConnection.all).toHaveLength(1);
    expect(room.sendToPeer('eve', { signal_type: 'offer', sdp: 'x' })).toBe(true);
    expect(FakeSocket.last.sent.at(-1)).toEqual({ signal_type: 'offer', sdp: 'x', target_peer_id: 'eve' });
  });
});

describe('mute', () => {
  it('is told as soon as the server has named the track', async () => {
    room.publish(microphone, { source: 'microphone' });
    await join();
    room.publish(microphone, { source: 'microphone', muted: true });
    expect(FakeSocket.last.of('mute')).toEqual([]);
    await answer();
    const track = { track_id: 't1', mid: '0', kind: 'audio', source: 'microphone', muted: false } as const;
    FakeSocket.last.say({ signal_type: 'track', peer_id: 'me', track });
    expect(FakeSocket.last.of('mute')).toEqual([{ signal_type: 'mute', track_id: 't1', muted: true }]);
    expect(room.localTracks[0]?.trackId).toBe('t1');
  });
});

describe('bad days', () => {
  it('a short loss heals by itself, a longer one restarts ICE', async () => {
    await join();
    await answer();
    FakeConnection.last.become('connected');
    FakeConnection.last.become('disconnected');
    vi.advanceTimersByTime(1_000);
    FakeConnection.last.become('connected');
    vi.advanceTimersByTime(10_000);
    expect(FakeConnection.last.restarts).toBe(0);
    FakeConnection.last.become('disconnected');
    expect(room.media).toBe('interrupted');
    vi.advanceTimersByTime(2_600);
    expect(FakeConnection.last.restarts).toBe(1);
  });

  it('a failed media connection is made anew with everything in it', async () => {
    room.publish(camera, { source: 'camera' });
    await join();
    await answer();
    FakeSocket.last.say({ signal_type: 'connection', state: 'failed' });
    await vi.advanceTimersByTimeAsync(1_100);
    await turns();
    expect(FakeConnection.all).toHaveLength(2);
    expect(FakeConnection.all[0]?.closed).toBe(true);
    expect(FakeSocket.last.of('offer').at(-1)?.tracks).toEqual([{ mid: '0', source: 'camera', muted: false }]);
  });

  it('what is said of the connection before is not taken for the new one', async () => {
    room.publish(camera, { source: 'camera' });
    await join();
    FakeSocket.last.say({ signal_type: 'connection', state: 'failed' });
    await vi.advanceTimersByTimeAsync(1_100);
    await turns();
    expect(FakeConnection.all).toHaveLength(1);
  });

  it('a join that is not a resumption publishes everything again', async () => {
    room.publish(camera, { source: 'camera' });
    await join({ participants: [person('bob')] });
    await answer();
    FakeSocket.last.drop(1001);
    expect(room.state).toBe('reconnecting');
    vi.advanceTimersByTime(300);
    await join({ peer_id: 'me-2', resumed: false });
    expect(room.state).toBe('connected');
    expect(room.peerId).toBe('me-2');
    expect(room.participants).toEqual([]);
    expect(FakeConnection.all).toHaveLength(2);
    expect(FakeSocket.last.of('offer')).toHaveLength(1);
  });

  it('a resumption keeps connection and slots, and mends media that is lost', async () => {
    await join({ participants: [person('bob')] });
    await answer();
    FakeConnection.last.become('connected');
    const video = FakeSocket.last.of('offer')[0]?.pairs?.[0]?.video ?? '';
    FakeSocket.last.drop(1006);
    FakeConnection.last.become('disconnected');
    vi.advanceTimersByTime(300);
    const slots = [{ mid: video, peer_id: 'bob', track_id: 'bob-v' }];
    await join({ resumed: true, participants: [person('bob')], slots });
    expect(FakeConnection.all).toHaveLength(1);
    expect(FakeConnection.last.restarts).toBe(1);
    expect(room.participants[0]?.tracks[1]?.slot?.mid).toBe(video);
  });

  it('another tab with the same token ends this one', async () => {
    await join();
    const reasons: string[] = [];
    room.on('closed', ({ code }) => reasons.push(code));
    FakeSocket.last.drop(4440);
    expect(reasons).toEqual(['replaced']);
    expect(FakeConnection.last.closed).toBe(true);
  });
});
