/** A WebSocket that is watched from its beginning, and the two that Veche has: signaling and messaging. */

import type { ErrorBody } from '@veche/sdk';
import type { SocketFacts } from './facts';

/** How long the server's first word may take. */
const WELCOME_MS = 10_000;
const PONG_MS = 3_000;
/** The fastest of so many pings counts. */
const PINGS = 3;

type Message = Record<string, unknown>;

/** A place in a call's room, for as long as the wire stands. */
export interface Member {
  wire: Wire;
  peerId: string;
}

/** Where to join, and as whom. */
export interface Place {
  origin: string;
  room: string;
  token: string | undefined;
}

export class Wire {
  opened = false;
  closeCode: number | null = null;
  readonly #socket: WebSocket;
  readonly #listeners = new Set<(message: Message | undefined) => void>();

  constructor(address: string) {
    this.#socket = new WebSocket(address);
    this.#socket.onopen = () => (this.opened = true);
    this.#socket.onmessage = ({ data }) => this.#tell(parse(data));
    this.#socket.onclose = ({ code }) => {
      this.closeCode = code;
      for (const listener of this.#listeners) listener(undefined);
    };
  }

  /** The first message from now on that `pick` makes something of; nothing when the wire closes or time is up. */
  next<T>(pick: (message: Message) => T | undefined, withinMs: number): Promise<T | undefined> {
    return new Promise((resolve) => {
      const end = (value: T | undefined) => {
        clearTimeout(late);
        this.#listeners.delete(listen);
        resolve(value);
      };
      const listen = (message: Message | undefined) => {
        const value = message && pick(message);
        if (!message || value !== undefined) end(value);
      };
      const late = setTimeout(() => end(undefined), withinMs);
      this.#listeners.add(listen);
      if (this.closeCode !== null) end(undefined);
    });
  }

  send(message: Message): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  close(): void {
    this.#socket.close(1000);
  }

  #tell(message: Message | undefined): void {
    if (message) for (const listener of this.#listeners) listener(message);
  }
}

/** Joins a room. The facts say why there is no member, where there is none. */
export async function joinRoom({ origin, room, token }: Place): Promise<{ facts: SocketFacts; member?: Member }> {
  const address = `${socketOrigin(origin)}/realtime/webrtc/signaling`;
  const query = new URLSearchParams({ room_id: room, name: 'Connection check', ...(token ? { token } : {}) });
  const { facts, wire, word } = await open(address, query, ({ signal_type: type, error, peer_id: peer }) => {
    if (type === 'joined' || type === 'waiting') return { type, peer: String(peer) };
    return type === 'error' ? { error: error as ErrorBody } : undefined;
  });
  facts.error = word?.error ?? null;
  facts.waiting = word?.type === 'waiting';
  facts.welcomed = word?.type === 'joined';
  if (!facts.welcomed || word?.peer === undefined) {
    wire.close();
    return { facts };
  }
  facts.rttMs = await ping(wire, { signal_type: 'ping' }, (message) => message.signal_type === 'pong');
  return { facts, member: { wire, peerId: word.peer } };
}

/** Leaves for good, so that the room forgets us at once. */
export function leaveRoom({ wire }: Member): void {
  wire.send({ signal_type: 'leave' });
  wire.close();
}

/** Tries the WebSocket of messaging. */
export async function tryMessaging(origin: string, token: string | undefined): Promise<SocketFacts> {
  const query = new URLSearchParams(token ? { token } : {});
  const { facts, wire, word } = await open(`${socketOrigin(origin)}/realtime/ws`, query, ({ type, error }) => {
    if (type === 'welcome') return { welcome: true };
    return type === 'error' ? { error: error as ErrorBody } : undefined;
  });
  facts.error = word?.error ?? null;
  facts.welcomed = word?.welcome ?? false;
  if (facts.welcomed) facts.rttMs = await ping(wire, { type: 'ping' }, (message) => message.type === 'pong');
  wire.close();
  return facts;
}

/** Opens a wire and waits for the first word that `pick` knows. */
async function open<T>(address: string, query: URLSearchParams, pick: (message: Message) => T | undefined) {
  const begun = performance.now();
  const wire = new Wire(`${address}?${query}`);
  const word = await wire.next(pick, WELCOME_MS);
  const facts: SocketFacts = {
    address,
    opened: wire.opened,
    ms: word ? performance.now() - begun : null,
    welcomed: false,
    waiting: false,
    elsewhere: false,
    rttMs: null,
    closeCode: wire.closeCode,
    error: null,
  };
  return { facts, wire, word };
}

async function ping(wire: Wire, message: Message, isPong: (message: Message) => boolean): Promise<number | null> {
  let fastest: number | null = null;
  for (let count = 0; count < PINGS; count++) {
    const begun = performance.now();
    const pong = wire.next((answer) => isPong(answer) || undefined, PONG_MS);
    wire.send(message);
    if (!(await pong)) break;
    const ms = performance.now() - begun;
    fastest = Math.min(fastest ?? ms, ms);
  }
  return fastest;
}

function socketOrigin(origin: string): string {
  return origin.replace(/^http/, 'ws');
}

function parse(data: unknown): Message | undefined {
  try {
    const message: unknown = JSON.parse(String(data));
    return typeof message === 'object' && message !== null ? (message as Message) : undefined;
  } catch {
    return undefined;
  }
}
