/** What the facts mean: pure functions from what was seen to a state and plain words for whoever "cannot get in". */

import type { ErrorBody } from '@veche/sdk';
import type {
  BrowserFacts,
  CameraFacts,
  DeviceFacts,
  MicrophoneFacts,
  PathFacts,
  RelayListFacts,
  ServerFacts,
  SocketFacts,
} from './facts';
import type { TextKey, Values } from './texts';

/** `skipped`: something that had to work first did not. */
export type State = 'waiting' | 'running' | 'fine' | 'warning' | 'failed' | 'skipped';

/** A text, and what is filled in. */
export interface Line {
  key: TextKey;
  values?: Values;
}

/** What is told of a check. */
export interface Finding {
  state: Exclude<State, 'waiting' | 'running'>;
  /** What came back. */
  back: Line;
  means: Line;
  /** What to do; absent where nothing needs doing. */
  mend?: Line;
}

/** Silence that is no quiet room but a microphone that is off: 60 dB below full scale. */
const SILENT_DB = -60;
/** A covered lens: of 255. */
const DARK = 6;

/** From here on people notice. */
const FAR_MS = 300;
const LOSSY_PERCENT = 3;
/** With less than this, in megabits per second, there is sound and a small picture. */
const NARROW_MBPS = 0.5;

/** A finding; texts without values may be named by their keys. */
function found(state: Finding['state'], back: Line | TextKey, means: Line | TextKey, mend?: Line | TextKey): Finding {
  const whole = (text: Line | TextKey) => (typeof text === 'string' ? line(text) : text);
  return { state, back: whole(back), means: whole(means), ...(mend === undefined ? {} : { mend: whole(mend) }) };
}

const line = (key: TextKey, values?: Values): Line => (values ? { key, values } : { key });

/** What could not be tried, since what comes before it failed. */
export function skipped(): Finding {
  return found('skipped', 'skipped.back', 'skipped.means');
}

/** The check itself broke: no fault of the network, perhaps one of ours. */
export function broken(error: unknown): Finding {
  const message = error instanceof Error ? error.message : String(error);
  return found('failed', line('broken.back', { message }), 'broken.means', 'broken.mend');
}

export function judgeBrowser({ name, secure, webrtc }: BrowserFacts): Finding {
  const back = line('browser.back', { name });
  if (!webrtc) return found('failed', line('browser.old.back', { name }), 'browser.old.means', 'browser.old.mend');
  if (!secure) return found('warning', 'browser.insecure.back', 'browser.insecure.means', 'browser.insecure.mend');
  return found('fine', back, 'browser.fine.means');
}

export function judgeCamera(facts: CameraFacts): Finding {
  const trouble = judgeDevice('camera', facts);
  if (trouble) return trouble;
  const { label = '', width = 0, height = 0, moving, brightness = 255 } = facts;
  if (!moving) return found('failed', line('camera.still.back', { label }), 'camera.none.means', 'camera.still.mend');
  const back = line('camera.fine.back', { label, width, height });
  if (brightness < DARK) return found('warning', line('camera.dark.back', { label }), 'camera.dark.means', 'camera.dark.mend');
  return found('fine', back, 'camera.fine.means');
}

export function judgeMicrophone(facts: MicrophoneFacts): Finding {
  const trouble = judgeDevice('microphone', facts);
  if (trouble) return trouble;
  const { label = '', loudestDb } = facts;
  if (loudestDb === undefined) return found('fine', line('microphone.unmeasured.back', { label }), 'microphone.fine.means');
  const db = Math.round(loudestDb);
  if (loudestDb < SILENT_DB) return found('warning', line('microphone.silent.back', { label }), 'microphone.silent.means', 'microphone.silent.mend');
  return found('fine', line('microphone.fine.back', { label, db }), 'microphone.fine.means');
}

/** Why a device cannot be had, in the words of either. */
function judgeDevice(device: 'camera' | 'microphone', { problem }: DeviceFacts): Finding | undefined {
  if (!problem) return undefined;
  const known = problem === 'lost' ? 'other' : problem;
  // Who has none can still look on and listen.
  const state = known === 'missing' ? 'warning' : 'failed';
  return found(state, line(`device.${known}.back`), line(`${device}.none.means`), line(`device.${known}.mend`));
}

export function judgeServer({ address, status, healthy, ms }: ServerFacts): Finding {
  if (status === null) return found('failed', 'server.silent.back', 'server.silent.means', line('server.silent.mend', { address }));
  if (status >= 400) return found('failed', line('server.sick.back', { status }), 'server.sick.means', line('server.sick.mend', { status }));
  if (!healthy) return found('failed', line('server.other.back', { status }), 'server.other.means', line('server.other.mend', { address }));
  return found('fine', line('server.fine.back', { ms: Math.round(ms ?? 0) }), 'server.fine.means');
}

/** The errors that a person can do something about, by what that is. */
const REFUSALS: Record<string, TextKey> = {
  authentication_required: 'refused.token.mend',
  invalid_token: 'refused.token.mend',
  token_expired: 'refused.token.mend',
  invalid_api_key: 'refused.token.mend',
  forbidden: 'refused.forbidden.mend',
  forbidden_origin: 'refused.forbidden_origin.mend',
  room_not_found: 'refused.room_not_found.mend',
  room_locked: 'refused.room_locked.mend',
  room_full: 'refused.room_full.mend',
  banned: 'refused.banned.mend',
  too_many_rooms: 'refused.too_many.mend',
  too_many_connections: 'refused.too_many.mend',
  webrtc_disabled: 'refused.webrtc_disabled.mend',
  rate_limited: 'refused.rate_limited.mend',
};

export function judgeSignaling(facts: SocketFacts): Finding {
  const { address, opened, welcomed, waiting, elsewhere, error, closeCode } = facts;
  if (welcomed) return found('fine', socketBack(facts), 'signaling.fine.means');
  // That a moderator opens the door is no fault, as long as the ways could be tried elsewhere.
  if (waiting && elsewhere) return found('fine', 'signaling.waiting.back', 'signaling.knock.means');
  if (waiting) return found('warning', 'signaling.waiting.back', 'signaling.waiting.means', 'signaling.waiting.mend');
  if (error) return found('failed', refusal(error), 'refused.means', REFUSALS[error.code] ?? 'refused.other.mend');
  const back = line(opened ? 'socket.mute.back' : 'socket.blocked.back', { code: closeCode ?? '–' });
  const mend = line(opened ? 'socket.mute.mend' : 'socket.blocked.mend', { address });
  return found('failed', back, 'signaling.blocked.means', mend);
}

export function judgeMessaging(facts: SocketFacts): Finding {
  const { address, opened, welcomed, error, closeCode } = facts;
  if (welcomed) return found('fine', socketBack(facts), 'messaging.fine.means');
  const means = line('messaging.none.means');
  if (error) return found('warning', refusal(error), means, 'messaging.refused.mend');
  const back = line(opened ? 'socket.mute.back' : 'socket.blocked.back', { code: closeCode ?? '–' });
  return found('warning', back, means, line(opened ? 'socket.mute.mend' : 'socket.blocked.mend', { address }));
}

function refusal({ code, message }: ErrorBody): Line {
  return line('refused.back', { code, message });
}

function socketBack({ ms, rttMs }: SocketFacts): Line {
  return line('socket.fine.back', { ms: Math.round(ms ?? 0), rtt: rttMs === null ? '–' : round(rttMs) });
}

export function judgeRelays({ status, error, relays, tried }: RelayListFacts): Finding {
  if (status === null || status >= 400) {
    const back = line('relays.refused.back', { status: status ?? '–', message: error?.message ?? '' });
    return found('failed', back, 'relays.refused.means', 'relays.refused.mend');
  }
  if (relays.length === 0) return found('warning', 'relays.none.back', 'relays.none.means', 'relays.none.mend');
  const means = tried < relays.length ? line('relays.many.means', { tried }) : 'relays.fine.means';
  return found('fine', line('relays.fine.back', { count: relays.length }), means);
}

/** STUN's words for "these are not my credentials" (RFC 8489, RFC 8656): stale ones are asked for again by the browser. */
const CREDENTIAL_ERRORS = [401, 431, 432, 434, 438, 441];
/** Quota reached, and no capacity left. */
const FULL_ERRORS = [486, 508];
/** From here on it is not the relay that speaks, but the browser. */
const BROWSER_ERRORS = 700;

export function judgePath(facts: PathFacts): Finding {
  const { way, relay, offered, error, allocated, iceErrors, connectMs } = facts;
  const addresses = offered.join(', ');
  if (error) return found('failed', refusal(error), 'path.refused.means', 'path.refused.mend');
  if (relay !== undefined && connectMs === null && !allocated) return judgeAllocation(relay, way, iceErrors);
  if (offered.length === 0) return found('warning', 'path.unoffered.back', 'path.unoffered.means', way === 'tcp' ? 'tcp.unoffered.mend' : 'udp.unoffered.mend');
  if (connectMs === null) {
    const values = { relay: relay ?? '', addresses };
    if (relay !== undefined) return found('failed', line('relay.beyond.back', values), 'relay.beyond.means', line('relay.beyond.mend', values));
    const back = line('path.blocked.back', values);
    if (way === 'udp') return found('failed', back, 'udp.blocked.means', line('udp.blocked.mend', values));
    return found('failed', back, 'tcp.blocked.means', line('tcp.blocked.mend', values));
  }
  return judgeLine(facts);
}

/** The relay gave no address. */
function judgeAllocation(relay: string, way: PathFacts['way'], errors: PathFacts['iceErrors']): Finding {
  const among = (codes: number[]) => errors.find(({ code }) => codes.includes(code));
  const wrong = among(CREDENTIAL_ERRORS);
  if (wrong) return found('failed', line('relay.credentials.back', wrong), 'relay.credentials.means', line('relay.credentials.mend', { relay }));
  const full = among(FULL_ERRORS);
  if (full) return found('failed', line('relay.full.back', full), 'relay.full.means', 'relay.full.mend');
  const other = errors.find(({ code }) => code >= 300 && code < BROWSER_ERRORS);
  if (other) return found('failed', line('relay.refused.back', other), 'relay.refused.means', line('relay.refused.mend', { relay }));
  const mend = line(way === 'udp' ? 'relay.silentUdp.mend' : 'relay.silentTcp.mend', { relay });
  return found('failed', line('relay.silent.back', { relay }), 'relay.silent.means', mend);
}

/** It is connected: how good is the line? */
function judgeLine({ relay, offered, connectMs, echoes, mbps }: PathFacts): Finding {
  const connected = Math.round(connectMs ?? 0);
  if (!echoes || echoes.rttMs === null) {
    return found('warning', line('path.mute.back', { ms: connected }), 'path.mute.means', 'path.mute.mend');
  }
  const rate = mbps ?? 0;
  // "Up to": what would be rounded to nothing is still a little.
  const values = { ms: connected, rtt: round(echoes.rttMs), loss: round(echoes.lossPercent), rate: Math.max(0.1, round(rate)) };
  const back = line('path.line.back', values);
  if (echoes.lossPercent > LOSSY_PERCENT) return found('warning', back, 'path.lossy.means', 'path.lossy.mend');
  if (echoes.rttMs > FAR_MS) return found('warning', back, 'path.far.means', 'path.far.mend');
  if (rate < NARROW_MBPS) return found('warning', back, 'path.narrow.means', 'path.narrow.mend');
  // An answer names the port of one worker; the next call may be given another.
  const means = relay === undefined ? line('path.straight.means', { addresses: offered.join(', ') }) : 'path.fine.means';
  return found('fine', back, means);
}

/** One decimal below ten, none above. */
function round(value: number): number {
  return value < 10 ? Math.round(value * 10) / 10 : Math.round(value);
}
