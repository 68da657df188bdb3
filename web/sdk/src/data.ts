/** Data channels to everybody in the room, or to one: they outlive the connection that carries them. */

import { Emitter } from './emitter';
import { decodeFrame, fragment, Reassembly, type Message } from './framing';
import type { Limits } from './protocol';

/** More than this waiting in the browser holds `send` back … */
const HIGH_WATER = 1_000_000;
/** … until it is this. */
const LOW_WATER = 256_000;
/** Fragments are kept this small so that messages to others get a turn between them. */
const FRAGMENT_BYTES = 64 * 1024;
/** The server needs this much of a message for the longest peer id, whatever the length of the one that is sent. */
const MOST_ID_BYTES = 64;
/** How long after a channel was closed from afar it is opened again. */
const REOPEN_MS = 1_000;

export const DEFAULT_LIMITS: Limits = {
  max_signal_bytes: 1_048_576,
  max_data_message_bytes: 65_536,
  max_fragmented_bytes: 1_048_576,
};

/** How a channel delivers. Ordered and reliable unless told otherwise. */
export type ChannelOptions = Pick<RTCDataChannelInit, 'ordered' | 'maxRetransmits' | 'maxPacketLifeTime'>;

export interface ChannelEvents {
  open: void;
  /** Not open any more. `reason` is the server's (`receiver-slow`, `limit`) where it gave one. */
  closed: { reason: string };
  message: Message;
}

/** Opens the channel that carries it; absent while there is no connection. */
export type OpenChannel = (label: string, init: RTCDataChannelInit) => RTCDataChannel;

export class Channel extends Emitter<ChannelEvents> {
  readonly label: string;
  readonly #options: ChannelOptions;
  #limits = DEFAULT_LIMITS;
  #reassembly = new Reassembly(DEFAULT_LIMITS.max_fragmented_bytes);
  #open: OpenChannel | undefined;
  #carrier: RTCDataChannel | undefined;
  #reopen: ReturnType<typeof setTimeout> | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #waiting = new Set<() => void>();
  #ended = false;

  constructor(label: string, options: ChannelOptions = {}) {
    super();
    this.label = label;
    this.#options = options;
  }

  get isOpen(): boolean {
    return this.#carrier?.readyState === 'open';
  }

  /**
   * Sends to everybody who has opened a channel with this label, or to one of them. Resolves when the browser has
   * room for more, in the order of the calls; rejects when the channel is not open or the message is too large.
   */
  send(data: string | Uint8Array, options: { to?: string } = {}): Promise<void> {
    const sent = this.#queue.then(() => this.#send(data, options.to ?? ''));
    this.#queue = sent.catch(() => {});
    return sent;
  }

  /** Closes the channel for good. */
  close(): void {
    this.#ended = true;
    this.detach();
  }

  /** There is a connection to be carried by. For `Room`. */
  attach(open: OpenChannel, limits: Limits): void {
    if (this.#ended) return;
    this.detach();
    this.#limits = limits;
    this.#reassembly = new Reassembly(limits.max_fragmented_bytes);
    this.#open = open;
    this.#carry();
  }

  /** The connection is gone. For `Room`. */
  detach(): void {
    clearTimeout(this.#reopen);
    this.#open = undefined;
    const carrier = this.#carrier;
    this.#lose('connection-lost');
    carrier?.close();
  }

  /** The server closed it. For `Room`. */
  handleClosed(reason: string): void {
    const carrier = this.#carrier;
    this.#lose(reason);
    carrier?.close();
    this.#reopenSoon();
  }

  /** Somebody left. For `Room`. */
  forget(peerId: string): void {
    this.#reassembly.forget(peerId);
  }

  #carry(): void {
    const carrier = this.#open?.(this.label, { ordered: true, ...this.#options });
    if (!carrier) return;
    this.#carrier = carrier;
    carrier.binaryType = 'arraybuffer';
    carrier.bufferedAmountLowThreshold = LOW_WATER;
    carrier.onopen = () => this.emit('open', undefined);
    carrier.onmessage = (event: MessageEvent) => this.#handleMessage(event.data);
    carrier.onbufferedamountlow = () => this.#release();
    carrier.onclose = () => {
      if (this.#carrier !== carrier) return;
      this.#lose('closed');
      this.#reopenSoon();
    };
  }

  #reopenSoon(): void {
    clearTimeout(this.#reopen);
    if (this.#open && !this.#ended) this.#reopen = setTimeout(() => this.#carry(), REOPEN_MS);
  }

  #lose(reason: string): void {
    const carrier = this.#carrier;
    if (!carrier) return;
    this.#carrier = undefined;
    carrier.onopen = carrier.onmessage = carrier.onclose = carrier.onbufferedamountlow = null;
    this.#reassembly = new Reassembly(this.#limits.max_fragmented_bytes);
    this.#release();
    this.emit('closed', { reason });
  }

  #handleMessage(data: unknown): void {
    if (!(data instanceof ArrayBuffer)) return;
    const frame = decodeFrame(new Uint8Array(data));
    const message = frame && this.#reassembly.take(frame);
    if (message) this.emit('message', message);
  }

  async #send(data: string | Uint8Array, to: string): Promise<void> {
    const carrier = this.#carrier;
    if (!carrier || carrier.readyState !== 'open') throw new Error(`channel ${this.label} is not open`);
    const text = typeof data === 'string';
    const payload = text ? new TextEncoder().encode(data) : data;
    const toBytes = new TextEncoder().encode(to).length;
    const most = this.#limits.max_data_message_bytes - MOST_ID_BYTES + toBytes;
    const whole = payload.length + 2 + toBytes <= most;
    if (!whole && payload.length > this.#limits.max_fragmented_bytes) {
      throw new RangeError(`a message has at most ${this.#limits.max_fragmented_bytes} bytes`);
    }
    if (!whole && !this.#mayFragment()) {
      throw new RangeError('a large message needs an ordered and reliable channel');
    }
    for (const bytes of fragment({ text, peerId: to, payload }, whole ? most : Math.min(most, FRAGMENT_BYTES))) {
      await this.#room(carrier);
      if (this.#carrier !== carrier) throw new Error(`channel ${this.label} was closed`);
      carrier.send(bytes);
    }
  }

  #mayFragment(): boolean {
    const { ordered = true, maxRetransmits, maxPacketLifeTime } = this.#options;
    return ordered && maxRetransmits === undefined && maxPacketLifeTime === undefined;
  }

  /** Resolves when the browser's queue has room, or when there is no use in waiting. */
  async #room(carrier: RTCDataChannel): Promise<void> {
    while (this.#carrier === carrier && carrier.bufferedAmount > HIGH_WATER) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #release(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const resolve of waiting) resolve();
  }
}
