/** What the facts mean: pure functions from what was seen to a state and plain words for whoever "cannot get in". */

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

const line = (key: TextKey, values?: Values): Line => (values ? { key, values } : { key });

/** What could not be tried, since what comes before it failed. */
export function skipped(): Finding {
  return { state: 'skipped', back: line('skipped.back'), means: line('skipped.means') };
}

/** The check itself broke: no fault of the network, perhaps one of ours. */
export function broken(error: unknown): Finding {
  const message = error instanceof Error ? error.message : String(error);
  return { state: 'failed', back: line('broken.back', { message }), means: line('broken.means'), mend: line('broken.mend') };
}

export function judgeBrowser({ name, secure, webrtc }: BrowserFacts): Finding {
  const back = line('browser.back', { name });
  if (!webrtc) return { state: 'failed', back: line('browser.old.back', { name }), means: line('browser.old.means'), mend: line('browser.old.mend') };
  if (!secure) return { state: 'warning', back: line('browser.insecure.back'), means: line('browser.insecure.means'), mend: line('browser.insecure.mend') };
  return { state: 'fine', back, means: line('browser.fine.means') };
}

export function judgeCamera(facts: CameraFacts): Finding {
  const trouble = judgeDevice('camera', facts);
  if (trouble) return trouble;
  const { label = '', width = 0, height = 0, moving, brightness = 255 } = facts;
  if (!moving) return { state: 'failed', back: line('camera.still.back', { label }), means: line('camera.none.means'), mend: line('camera.still.mend') };
  const back = line('camera.fine.back', { label, width, height });
  if (brightness < DARK) return { state: 'warning', back: line('camera.dark.back', { label }), means: line('camera.dark.means'), mend: line('camera.dark.mend') };
  return { state: 'fine', back, means: line('camera.fine.means') };
}

export function judgeMicrophone(facts: MicrophoneFacts): Finding {
  const trouble = judgeDevice('microphone', facts);
  if (trouble) return trouble;
  const { label = '', loudestDb } = facts;
  if (loudestDb === undefined) return { state: 'fine', back: line('microphone.unmeasured.back', { label }), means: line('microphone.fine.means') };
  const db = Math.round(loudestDb);
  if (loudestDb < SILENT_DB) return { state: 'warning', back: line('microphone.silent.back', { label }), means: line('microphone.silent.means'), mend: line('microphone.silent.mend') };
  return { state: 'fine', back: line('microphone.fine.back', { label, db }), means: line('microphone.fine.means') };
}

/** Why a device cannot be had, in the words of either. */
function judgeDevice(device: 'camera' | 'microphone', { problem }: DeviceFacts): Finding | undefined {
  if (!problem) return undefined;
  const known = problem === 'lost' ? 'other' : problem;
  // Who has none can still look on and listen.
  const state = known === 'missing' ? 'warning' : 'failed';
  return { state, back: line(`device.${known}.back`), means: line(`${device}.none.means`), mend: line(`device.${known}.mend`) };
}

export function judgeServer({ address, status, ms }: ServerFacts): Finding {
  if (status === null) return { state: 'failed', back: line('server.silent.back'), means: line('server.silent.means'), mend: line('server.silent.mend', { address }) };
  if (status >= 400) return { state: 'failed', back: line('server.sick.back', { status }), means: line('server.sick.means'), mend: line('server.sick.mend', { status }) };
  return { state: 'fine', back: line('server.fine.back', { ms: Math.round(ms ?? 0) }), means: line('server.fine.means') };
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
  const { address, opened, welcomed, waiting, error, closeCode } = facts;
  if (welcomed) return { state: 'fine', back: socketBack(facts), means: line('signaling.fine.means') };
  if (waiting) return { state: 'warning', back: line('signaling.waiting.back'), means: line('signaling.waiting.means'), mend: line('signaling.waiting.mend') };
  if (error) {
    const back = line('refused.back', { code: error.code, message: error.message });
    return { state: 'failed', back, means: line('refused.means'), mend: line(REFUSALS[error.code] ?? 'refused.other.mend') };
  }
  const back = line(opened ? 'socket.mute.back' : 'socket.blocked.back', { code: closeCode ?? '–' });
  const mend = line(opened ? 'socket.mute.mend' : 'socket.blocked.mend', { address });
  return { state: 'failed', back, means: line('signaling.blocked.means'), mend };
}

export function judgeMessaging(facts: SocketFacts): Finding {
  const { address, opened, welcomed, error, closeCode } = facts;
  if (welcomed) return { state: 'fine', back: socketBack(facts), means: line('messaging.fine.means') };
  const means = line('messaging.none.means');
  if (error) return { state: 'warning', back: line('refused.back', { code: error.code, message: error.message }), means, mend: line('messaging.refused.mend') };
  const back = line(opened ? 'socket.mute.back' : 'socket.blocked.back', { code: closeCode ?? '–' });
  return { state: 'warning', back, means, mend: line(opened ? 'socket.mute.mend' : 'socket.blocked.mend', { address }) };
}

function socketBack({ ms, rttMs }: SocketFacts): Line {
  return line('socket.fine.back', { ms: Math.round(ms ?? 0), rtt: rttMs === null ? '–' : round(rttMs) });
}

export function judgeRelays({ status, error, relays }: RelayListFacts): Finding {
  if (status === null || status >= 400) {
    const back = line('relays.refused.back', { status: status ?? '–', message: error?.message ?? '' });
    return { state: 'failed', back, means: line('relays.refused.means'), mend: line('relays.refused.mend') };
  }
  if (relays.length === 0) return { state: 'warning', back: line('relays.none.back'), means: line('relays.none.means'), mend: line('relays.none.mend') };
  return { state: 'fine', back: line('relays.fine.back', { count: relays.length }), means: line('relays.fine.means') };
}

/** STUN's words for "these are not my credentials" (RFC 8489, RFC 8656): stale ones are asked for again by the browser. */
const CREDENTIAL_ERRORS = [400, 401, 403, 431, 432, 434, 438, 441];
/** Quota reached, and no capacity left. */
const FULL_ERRORS = [486, 508];

export function judgePath(facts: PathFacts): Finding {
  const { way, relay, offered, error, allocated, iceErrors, connectMs } = facts;
  const addresses = offered.join(', ');
  if (error) return { state: 'failed', back: line('refused.back', { code: error.code, message: error.message }), means: line('path.refused.means'), mend: line('path.refused.mend') };
  if (relay !== undefined && connectMs === null && !allocated) return judgeAllocation(relay, way, iceErrors);
  if (offered.length === 0) return { state: 'warning', back: line('path.unoffered.back'), means: line('path.unoffered.means'), mend: line(way === 'tcp' ? 'tcp.unoffered.mend' : 'udp.unoffered.mend') };
  if (connectMs === null) {
    if (relay !== undefined) return { state: 'failed', back: line('relay.beyond.back', { relay }), means: line('relay.beyond.means'), mend: line('relay.beyond.mend', { relay, addresses }) };
    if (way === 'udp') return { state: 'failed', back: line('path.blocked.back', { addresses }), means: line('udp.blocked.means'), mend: line('udp.blocked.mend', { addresses }) };
    return { state: 'failed', back: line('path.blocked.back', { addresses }), means: line('tcp.blocked.means'), mend: line('tcp.blocked.mend', { addresses }) };
  }
  return judgeLine(facts);
}

/** The relay gave no address. */
function judgeAllocation(relay: string, way: PathFacts['way'], errors: PathFacts['iceErrors']): Finding {
  const among = (codes: number[]) => errors.find(({ code }) => codes.includes(code));
  const wrong = among(CREDENTIAL_ERRORS);
  if (wrong) return { state: 'failed', back: line('relay.credentials.back', wrong), means: line('relay.credentials.means'), mend: line('relay.credentials.mend', { relay }) };
  const full = among(FULL_ERRORS);
  if (full) return { state: 'failed', back: line('relay.full.back', full), means: line('relay.full.means'), mend: line('relay.full.mend') };
  const mend = line(way === 'udp' ? 'relay.silentUdp.mend' : 'relay.silentTcp.mend', { relay });
  return { state: 'failed', back: line('relay.silent.back', { relay }), means: line('relay.silent.means'), mend };
}

/** It is connected: how good is the line? */
function judgeLine({ connectMs, echoes, mbps }: PathFacts): Finding {
  const connected = Math.round(connectMs ?? 0);
  if (!echoes || echoes.rttMs === null) {
    return { state: 'warning', back: line('path.mute.back', { ms: connected }), means: line('path.mute.means'), mend: line('path.mute.mend') };
  }
  const values = { ms: connected, rtt: round(echoes.rttMs), loss: round(echoes.lossPercent), rate: mbps === null ? '–' : round(mbps) };
  const back = line('path.line.back', values);
  if (echoes.lossPercent > LOSSY_PERCENT) return { state: 'warning', back, means: line('path.lossy.means'), mend: line('path.lossy.mend') };
  if (echoes.rttMs > FAR_MS) return { state: 'warning', back, means: line('path.far.means'), mend: line('path.far.mend') };
  if (mbps !== null && mbps < NARROW_MBPS) return { state: 'warning', back, means: line('path.narrow.means'), mend: line('path.narrow.mend') };
  return { state: 'fine', back, means: line('path.fine.means') };
}

/** One decimal below ten, none above. */
function round(value: number): number {
  return value < 10 ? Math.round(value * 10) / 10 : Math.round(value);
}
