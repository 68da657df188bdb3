/**
 * What the address asks for. How video is published: `?codec=vp9`, `?simulcast=0` or `1`, `?svc=L3T3_KEY`. `?relay=1` or `true`: media
 * over a TURN server only, `?relay=udp`, `tcp` or `tls`: reached that way.
 */

import { isScalabilityMode, type IceOptions, type PublishOptions, type TurnTransport, type VideoCodec } from '@veche/sdk';

export interface PageOptions extends PublishOptions, IceOptions {
  /** From `/r/ROOM` or `?room=`. */
  room: string;
  /** From `?name=`. */
  name: string;
  /** From `#token=`, which is not sent to the server with the page, or `?token=`. */
  accessToken: string | undefined;
  /** `?autojoin=1`: joins without a click; see `mayOpenUnasked`. */
  autojoin: boolean;
}

const CODECS: readonly string[] = ['vp8', 'h264', 'vp9', 'av1'] satisfies VideoCodec[];
const TRANSPORTS: readonly string[] = ['udp', 'tcp', 'tls'] satisfies TurnTransport[];
const RELAYED: readonly string[] = ['1', 'true', ...TRANSPORTS];
/** What the server takes as a room's name at most. */
const ROOM_BYTES = 128;

export function readOptions(address: string): PageOptions {
  const { pathname, searchParams, hash } = new URL(address);
  const inPath = /^\/r\/([^/]+)\/?$/.exec(pathname)?.[1];
  const codec = searchParams.get('codec')?.toLowerCase() ?? '';
  const simulcast = searchParams.get('simulcast');
  const svc = searchParams.get('svc')?.toUpperCase() ?? '';
  const relay = searchParams.get('relay')?.toLowerCase() ?? '';
  return {
    room: cleanRoom(inPath === undefined ? (searchParams.get('room') ?? '') : decode(inPath)),
    name: (searchParams.get('name') ?? '').slice(0, 64),
    codec: CODECS.includes(codec) ? (codec as VideoCodec) : undefined,
    simulcast: simulcast === null ? undefined : simulcast !== '0',
    svc: isScalabilityMode(svc) ? svc : undefined,
    iceTransportPolicy: RELAYED.includes(relay) ? 'relay' : undefined,
    turnTransport: TRANSPORTS.includes(relay) ? (relay as TurnTransport) : undefined,
    accessToken: new URLSearchParams(hash.slice(1)).get('token') ?? searchParams.get('token') ?? undefined,
    autojoin: searchParams.get('autojoin') === '1',
  };
}

/**
 * Whether a page that joins without a click may open camera and microphone too. A link must not be enough for that on a
 * site that already has the browser's permission: only on the person's own machine, and where a program is at the wheel.
 */
export function mayOpenUnasked(hostname: string, automated: boolean): boolean {
  return automated || ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
}

/** Makes a room's name of what was typed: at most 128 bytes of letters and digits of any script, `_`, `-` and `.`. */
export function cleanRoom(typed: string): string {
  const name = typed
    .trim()
    .replace(/\s+/g, '-')
    .replace(/[^\p{L}\p{N}_.-]/gu, '');
  // Encoding stops before the first letter that does not fit as a whole.
  return name.slice(0, new TextEncoder().encodeInto(name, new Uint8Array(ROOM_BYTES)).read);
}

/** The address of a room's page; the options for developers stay. */
export function roomAddress(address: string, room: string): string {
  const url = new URL(address);
  url.pathname = `/r/${room}`;
  url.searchParams.delete('room');
  url.hash = '';
  return url.href;
}

/** The link to send to others. */
export function inviteLink(address: string, room: string): string {
  return new URL(`/r/${room}`, address).href;
}

/** The page that finds out why somebody cannot get into a room. The token goes where it is not sent with the page. */
export function doctorAddress(room: string, accessToken: string | undefined): string {
  const query = room ? `?${new URLSearchParams({ room })}` : '';
  return `/doctor${query}${accessToken ? `#${new URLSearchParams({ token: accessToken })}` : ''}`;
}

/** A name for a room that nobody has chosen yet: easy to say, hard to hit by accident. */
export function randomRoom(random: () => number = Math.random): string {
  const letters = () =>
    Array.from({ length: 3 }, (_, index) => {
      const set = index % 2 === 0 ? 'bdfgklmnprstvz' : 'aeiou';
      return set[Math.floor(random() * set.length)];
    }).join('');
  return `${letters()}-${letters()}-${letters()}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
