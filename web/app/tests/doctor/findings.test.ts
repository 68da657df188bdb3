import { describe, expect, it } from 'vitest';
import type { PathFacts, SocketFacts } from '../../src/doctor/facts';
import {
  judgeBrowser,
  judgeCamera,
  judgeMessaging,
  judgeMicrophone,
  judgePath,
  judgeRelays,
  judgeServer,
  judgeSignaling,
  type Finding,
} from '../../src/doctor/findings';

const told = ({ state, back, mend }: Finding) => [state, back.key, mend?.key];

const socket = (facts: Partial<SocketFacts>): SocketFacts => ({
  address: 'wss://veche.example/x', opened: true, ms: 40, welcomed: false, waiting: false, elsewhere: false, rttMs: null, closeCode: null, error: null, ...facts,
});

const path = (facts: Partial<PathFacts>): PathFacts => ({
  way: 'udp', offered: ['203.0.113.5:40000'], error: null, allocated: null, iceErrors: [], connectMs: null, used: null, echoes: null, mbps: null, ...facts,
});

const relay = (facts: Partial<PathFacts>): PathFacts => path({ relay: 'turn:turn.example:3478?transport=udp', allocated: false, ...facts });

const line = (rttMs: number | null, lossPercent: number, mbps: number | null): PathFacts =>
  path({ connectMs: 120, echoes: { sent: 100, lossPercent, rttMs, jitterMs: 3 }, mbps });

describe('devices', () => {
  it.each([
    [{ name: 'Firefox 140', secure: true, webrtc: true }, ['fine', 'browser.back', undefined]],
    [{ name: 'Firefox 140', secure: false, webrtc: true }, ['warning', 'browser.insecure.back', 'browser.insecure.mend']],
    [{ name: 'Lynx', secure: true, webrtc: false }, ['failed', 'browser.old.back', 'browser.old.mend']],
  ])('a browser: %o', (facts, expected) => expect(told(judgeBrowser(facts))).toEqual(expected));

  it.each([
    [{ devices: 1, label: 'Cam', moving: true, width: 640, height: 480, brightness: 90 }, ['fine', 'camera.fine.back', undefined]],
    [{ devices: 1, label: 'Cam', moving: true, width: 640, height: 480, brightness: 1 }, ['warning', 'camera.dark.back', 'camera.dark.mend']],
    [{ devices: 1, label: 'Cam', moving: false }, ['failed', 'camera.still.back', 'camera.still.mend']],
    [{ devices: 1, problem: 'denied' as const }, ['failed', 'device.denied.back', 'device.denied.mend']],
    [{ devices: 0, problem: 'missing' as const }, ['warning', 'device.missing.back', 'device.missing.mend']],
    [{ devices: 1, problem: 'lost' as const }, ['failed', 'device.other.back', 'device.other.mend']],
  ])('a camera: %o', (facts, expected) => expect(told(judgeCamera(facts))).toEqual(expected));

  it.each([
    [{ devices: 1, label: 'Mic', loudestDb: -20 }, ['fine', 'microphone.fine.back', undefined]],
    [{ devices: 1, label: 'Mic', loudestDb: -80 }, ['warning', 'microphone.silent.back', 'microphone.silent.mend']],
    [{ devices: 1, label: 'Mic' }, ['fine', 'microphone.unmeasured.back', undefined]],
    [{ devices: 1, problem: 'busy' as const }, ['failed', 'device.busy.back', 'device.busy.mend']],
    [{ devices: 1, problem: 'unanswered' as const }, ['failed', 'device.unanswered.back', 'device.unanswered.mend']],
  ])('a microphone: %o', (facts, expected) => expect(told(judgeMicrophone(facts))).toEqual(expected));
});

describe('the server', () => {
  it.each([
    [{ address: 'a', status: 200, healthy: true, ms: 4 }, ['fine', 'server.fine.back', undefined]],
    [{ address: 'a', status: 200, healthy: false, ms: 4 }, ['failed', 'server.other.back', 'server.other.mend']],
    [{ address: 'a', status: 502, healthy: false, ms: 4 }, ['failed', 'server.sick.back', 'server.sick.mend']],
    [{ address: 'a', status: null, healthy: false, ms: null }, ['failed', 'server.silent.back', 'server.silent.mend']],
  ])('%o', (facts, expected) => expect(told(judgeServer(facts))).toEqual(expected));

  it.each([
    [socket({ welcomed: true, rttMs: 3.24 }), ['fine', 'socket.fine.back', undefined]],
    [socket({ opened: false, closeCode: 1006 }), ['failed', 'socket.blocked.back', 'socket.blocked.mend']],
    [socket({}), ['failed', 'socket.mute.back', 'socket.mute.mend']],
    [socket({ waiting: true, elsewhere: true }), ['fine', 'signaling.waiting.back', undefined]],
    [socket({ waiting: true }), ['warning', 'signaling.waiting.back', 'signaling.waiting.mend']],
    [socket({ closeCode: 4001, error: { code: 'token_expired', message: 'expired' } }), ['failed', 'refused.back', 'refused.token.mend']],
    [socket({ opened: false, error: { code: 'webrtc_disabled', message: 'off' } }), ['failed', 'refused.back', 'refused.webrtc_disabled.mend']],
    [socket({ closeCode: 4000, error: { code: 'quite_new', message: 'hm' } }), ['failed', 'refused.back', 'refused.other.mend']],
  ])('signaling: %o', (facts, expected) => expect(told(judgeSignaling(facts))).toEqual(expected));

  it('without messages is not without calls', () => {
    expect(told(judgeMessaging(socket({ welcomed: true, rttMs: 3 })))).toEqual(['fine', 'socket.fine.back', undefined]);
    expect(told(judgeMessaging(socket({ opened: false })))).toEqual(['warning', 'socket.blocked.back', 'socket.blocked.mend']);
    expect(told(judgeMessaging(socket({})))).toEqual(['warning', 'socket.mute.back', 'socket.mute.mend']);
    const error = { code: 'forbidden', message: 'no' };
    expect(told(judgeMessaging(socket({ error })))).toEqual(['warning', 'refused.back', 'messaging.refused.mend']);
  });

  it.each([
    [{ status: 200, error: null, relays: ['turn:a', 'turn:b'], tried: 2 }, ['fine', 'relays.fine.back', undefined]],
    [{ status: 200, error: null, relays: [], tried: 0 }, ['warning', 'relays.none.back', 'relays.none.mend']],
    [{ status: 403, error: { code: 'forbidden', message: 'no' }, relays: [], tried: 0 }, ['failed', 'relays.refused.back', 'relays.refused.mend']],
    [{ status: null, error: null, relays: [], tried: 0 }, ['failed', 'relays.refused.back', 'relays.refused.mend']],
  ])('its relays: %o', (facts, expected) => expect(told(judgeRelays(facts))).toEqual(expected));
});

it('does not say that relays are tried which are not', () => {
  const relays = Array.from({ length: 9 }, (_, index) => `turn:${index}`);
  expect(judgeRelays({ status: 200, error: null, relays, tried: 9 }).means).toEqual({ key: 'relays.fine.means' });
  expect(judgeRelays({ status: 200, error: null, relays, tried: 8 }).means).toEqual({ key: 'relays.many.means', values: { tried: 8 } });
});

describe('a way', () => {
  it.each([
    [path({}), ['failed', 'path.blocked.back', 'udp.blocked.mend']],
    [path({ way: 'tcp' }), ['failed', 'path.blocked.back', 'tcp.blocked.mend']],
    [path({ way: 'tcp', offered: [] }), ['warning', 'path.unoffered.back', 'tcp.unoffered.mend']],
    [path({ error: { code: 'no_answer', message: '' } }), ['failed', 'refused.back', 'path.refused.mend']],
    [relay({}), ['failed', 'relay.silent.back', 'relay.silentUdp.mend']],
    [relay({ way: 'tls', iceErrors: [{ code: 701, text: 'timed out' }] }), ['failed', 'relay.silent.back', 'relay.silentTcp.mend']],
    [relay({ iceErrors: [{ code: 701, text: '' }, { code: 401, text: 'Unauthorized' }] }), ['failed', 'relay.credentials.back', 'relay.credentials.mend']],
    [relay({ iceErrors: [{ code: 486, text: 'Allocation Quota Reached' }] }), ['failed', 'relay.full.back', 'relay.full.mend']],
    [relay({ iceErrors: [{ code: 403, text: 'Forbidden' }] }), ['failed', 'relay.refused.back', 'relay.refused.mend']],
    [relay({ iceErrors: [{ code: 400, text: 'Bad Request' }] }), ['failed', 'relay.refused.back', 'relay.refused.mend']],
    [relay({ allocated: true }), ['failed', 'relay.beyond.back', 'relay.beyond.mend']],
  ])('that is closed: %o', (facts, expected) => expect(told(judgePath(facts))).toEqual(expected));

  it('that is closed names the addresses to open', () => {
    expect(judgePath(path({ offered: ['203.0.113.5:40000', '[2001:db8::7]:40000'] })).mend?.values).toMatchObject({
      addresses: '203.0.113.5:40000, [2001:db8::7]:40000',
    });
  });

  it.each([
    [line(20, 0, 50), ['fine', undefined]],
    [line(20, 0, null), ['warning', 'path.narrow.mend']],
    [line(20, 0, 0), ['warning', 'path.narrow.mend']],
    [line(300, 3, 0.5), ['fine', undefined]],
    [line(20, 3.1, 50), ['warning', 'path.lossy.mend']],
    [line(301, 0, 50), ['warning', 'path.far.mend']],
    [line(20, 0, 0.4), ['warning', 'path.narrow.mend']],
    [line(null, 100, null), ['warning', 'path.mute.mend']],
    [path({ connectMs: 90 }), ['warning', 'path.mute.mend']],
  ])('that is open is as good as its figures: %o', (facts, expected) => {
    const { state, mend } = judgePath(facts);
    expect([state, mend?.key]).toEqual(expected);
  });

  it('claims no more ports than were tried', () => {
    expect(judgePath(line(20, 0, 50)).means).toEqual({ key: 'path.straight.means', values: { addresses: '203.0.113.5:40000' } });
    expect(judgePath({ ...line(20, 0, 50), relay: 'turn:turn.example' }).means.key).toBe('path.fine.means');
  });

  it('tells its figures as people write them', () => {
    expect(judgePath(line(4.56, 0.345, 123.4)).back.values).toEqual({ ms: 120, rtt: 4.6, loss: 0.3, rate: 123 });
    expect(judgePath(line(20, 0, 0.02)).back.values).toMatchObject({ rate: 0.1 });
  });
});
