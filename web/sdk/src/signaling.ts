/** The WebSocket to the server: kept alive, watched, and opened again when it is lost. */

import { Backoff } from './backoff';
import { Emitter } from './emitter';
import type { ClientMessage, ErrorBody, PeerMessage, ServerMessage } from './protocol';

const PING_EVERY_MS = 10_000;
/** Nothing heard for so long: the connection is dead even if nobody says so. Two pings and some. */
const SILENCE_MS = 22_000;
/** How long a ping may take when there is a reason to doubt the connection (network changed, page woke up). */
const DOUBT_MS = 3_000;
/** How long opening may take, up to the first message. */
const OPEN_MS = 8_000;
/** The least wait after the server said that we are too fast. */
const RATE_LIMITED_MS = 5_000;
/** A connection that stood for so long was a success; one that is lost sooner does not shorten the waits. */
const STOOD_MS = 10_000;

/** The codes after which coming back is of no use, and what they mean (PROTOCOL.md): the first, or what the error before says. */
const FINAL_CODES: Record<number, readonly [string, ...string[]]> = {
  4001: ['unauthorized'],
  4002: ['unauthorized'],
  4400: ['bad_request'],
  4403: ['forbidden', 'removed', 'banned', 'not_admitted'],
  4404: ['room_not_found'],
  4409: ['peer_id_taken'],
  4410: ['room_deleted'],
  4423: ['room_full', 'room_locked'],
  4440: ['replaced'],
};

/** The part of `WebSocket` that is used. */
export interface Socket {
  readonly readyState: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface SignalingOptions {
  /** Opens a WebSocket; the browser's own unless told otherwise. */
  openSocket?: (address: string) => Socket;
  /** For the spread of waiting times. */
  random?: () => number;
}

export interface SignalingEvents {
  /** A message of the server, `pong` excepted. */
  message: ServerMessage;
  /** A message of another client, relayed: whatever it says, it does not speak for the server. */
  peer: PeerMessage;
  /** The connection is lost and will be opened again. `code` is that of the close, `error` the server's last word. */
  down: { retryInMs: number; attempts: number; code: number; error: ErrorBody | undefined };
  /** The connection is over for good. */
  closed: ErrorBody;
}

const OPEN = 1;

export class Signaling extends Emitter<SignalingEvents> {
  readonly #address: () => string;
  readonly #openSocket: (address: string) => Socket;
  readonly #backoff: Backoff;
  #socket: Socket | undefined;
  #stopped = false;
  #joined = false;
  /** A moderator must let us in first; until then the server answers nothing. */
  #waiting = false;
  #lastError: ErrorBody | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #pings: ReturnType<typeof setInterval> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #stood: ReturnType<typeof setTimeout> | undefined;

  /** `address` is asked again at every attempt, since the resume token in it changes. */
  constructor(address: () => string, options: SignalingOptions = {}) {
    super();
    this.#address = address;
    this.#openSocket = options.openSocket ?? ((url) => new WebSocket(url) as Socket);
    this.#backoff = new Backoff(options.random);
  }

  /** Whether messages can be sent now. */
  get up(): boolean {
    return this.#joined && this.#socket?.readyState === OPEN;
  }

  /** Opens the connection. */
  start(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#joined = false;
    this.#waiting = false;
    this.#lastError = undefined;
    let socket: Socket;
    try {
      socket = this.#openSocket(this.#address());
    } catch (error) {
      this.#finish({ code: 'bad_request', message: String(error) });
      return;
    }
    this.#socket = socket;
    this.#expectWithin(OPEN_MS);
    socket.onmessage = (event) => this.#handleText(event.data);
    socket.onclose = (event) => this.#handleClose(event.code, event.reason);
  }

  /** Sends a message; `false` when the connection is down, and then the message is gone. */
  send(message: ClientMessage): boolean {
    if (!this.up) return false;
    this.#socket?.send(JSON.stringify(message));
    return true;
  }

  /** Sends a message to another client of the room; `false` when the connection is down. */
  relay(message: PeerMessage): boolean {
    if (!this.up) return false;
    this.#socket?.send(JSON.stringify(message));
    return true;
  }

  /** There is a reason to try at once, or to doubt that the connection still stands: the network changed, or the page woke up. */
  wake(reason: 'online' | 'visible'): void {
    if (this.#stopped) return;
    if (this.#retry !== undefined) {
      this.start();
    } else if (this.#waiting) {
      // Nobody can be asked whether the line still stands; knocking again is no loss but of the place in the row.
      if (reason === 'online') this.#giveUp('the network changed');
    } else if (this.send({ signal_type: 'ping' })) {
      this.#expectWithin(DOUBT_MS);
    }
  }

  /** Closes for good. With `leave` the server forgets the client at once. */
  stop(leave: boolean): void {
    if (this.#stopped) return;
    if (leave) this.send({ signal_type: 'leave' });
    const socket = this.#socket;
    this.#stopped = true;
    this.#abandon();
    socket?.close(1000);
  }

  #handleText(text: unknown): void {
    let message: ServerMessage;
    try {
      message = JSON.parse(String(text)) as ServerMessage;
    } catch {
      return;
    }
    if (typeof message?.signal_type !== 'string') return;
    // The server always adds the one and keeps the other: what has neither is its own word.
    if ('from_peer_id' in message || 'target_peer_id' in message) {
      if (this.#joined) this.emit('peer', message as unknown as PeerMessage);
      return;
    }
    if (message.signal_type === 'waiting') {
      this.#waiting = true;
      clearTimeout(this.#silence);
    }
    if (message.signal_type === 'joined') {
      this.#waiting = false;
      this.#joined = true;
      this.#stood = setTimeout(() => this.#backoff.reset(), STOOD_MS);
      this.#pings = setInterval(() => this.send({ signal_type: 'ping' }), PING_EVERY_MS);
    }
    if (this.#joined) this.#expectWithin(SILENCE_MS);
    if (message.signal_type === 'error') this.#lastError = message.error;
    if (message.signal_type !== 'pong') this.emit('message', message);
  }

  #handleClose(code: number, reason: string): void {
    this.#abandon();
    if (this.#stopped) return;
    const final = FINAL_CODES[code];
    if (final !== undefined) {
      const said = this.#lastError?.code ?? '';
      const name = final.includes(said) ? said : final[0];
      this.#finish({ code: name, message: this.#lastError?.message ?? reason });
      return;
    }
    let wait = this.#backoff.next();
    if (code === 4429) wait = Math.max(wait, RATE_LIMITED_MS);
    this.#retry = setTimeout(() => this.start(), wait);
    this.emit('down', { retryInMs: wait, attempts: this.#backoff.attempts, code, error: this.#lastError });
  }

  #finish(reason: ErrorBody): void {
    this.#stopped = true;
    this.emit('closed', reason);
  }

  /** Gives the connection up unless something is heard within `ms`. */
  #expectWithin(ms: number): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#giveUp('silence'), ms);
  }

  /** The connection is taken for lost, whatever the browser says. */
  #giveUp(reason: string): void {
    const socket = this.#socket;
    this.#handleClose(1006, reason);
    socket?.close();
  }

  /** Lets go of the socket and its timers; a late word from it is not heard. */
  #abandon(): void {
    clearTimeout(this.#silence);
    clearTimeout(this.#retry);
    clearTimeout(this.#stood);
    clearInterval(this.#pings);
    this.#retry = undefined;
    this.#joined = false;
    this.#waiting = false;
    if (this.#socket) {
      this.#socket.onmessage = null;
      this.#socket.onclose = null;
    }
    this.#socket = undefined;
  }
}
