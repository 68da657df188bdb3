/**
 * Files to everybody or to one, over a data channel.
 *
 * Text messages steer (JSON with a `type`), binary ones carry: 16 bytes transfer id, 8 bytes offset, data. A receiver
 * accepts with the offset from which it wants the file, which also mends an interruption. Each receiver has a stream
 * of its own with a window of unacknowledged bytes, so that a slow one neither holds up the others nor fills the
 * server's queue.
 */

import type { Channel } from './data';
import { Emitter } from './emitter';

const CHUNK_BYTES = 32 * 1024;
/** How much may be on the way to one receiver. */
const WINDOW_BYTES = 1024 * 1024;
/** A receiver acknowledges at least so often. */
const ACK_BYTES = 128 * 1024;
/** Received bytes are folded into a blob in such portions, which browsers may keep on disk. */
const FOLD_BYTES = 8 * 1024 * 1024;
/** Larger files are checked by their length alone: browsers digest only what is in memory as a whole. */
const MOST_DIGESTED = 64 * 1024 * 1024;
const MOST_BYTES = 4 * 1024 ** 3;
const MOST_OFFERS = 100;
/** Offers of one sender that wait for an answer: nobody can fill the list alone. */
const MOST_WAITING = 20;
/** A receiver to whom nothing came for so long asks again. */
const PATIENCE_MS = 10_000;
const HEADER_BYTES = 24;

export type FileState = 'offered' | 'active' | 'done' | 'declined' | 'cancelled' | 'failed';

/** A file on its way, as a page shows it. A new object whenever something changed. */
export interface FileTransfer {
  id: string;
  direction: 'out' | 'in';
  /** The sender, or the one receiver; empty: everybody. */
  peerId: string;
  name: string;
  size: number;
  mime: string;
  state: FileState;
  /** Received, or acknowledged by the slowest receiver who accepted. */
  bytes: number;
  /** Of an outgoing file: how many accepted, and how many of them have it whole. */
  receivers: { accepted: number; done: number };
  /** The received file. */
  blob?: Blob;
}

export interface FileEvents {
  /** Somebody offers a file: `accept` or `decline` it. */
  offer: FileTransfer;
  change: FileTransfer;
}

/** A file to send: a `File`, or a blob and a name. */
export interface FileSource {
  blob: Blob;
  name: string;
}

type Steer =
  | { type: 'offer'; id: string; name: string; size: number; mime: string }
  | { type: 'accept'; id: string; offset: number }
  | { type: 'ack'; id: string; bytes: number }
  | { type: 'done'; id: string; sha256?: string }
  | { type: 'decline' | 'cancel'; id: string }
  /** The sender's channel is open: whoever offers something to everybody offers it again. `id` is empty. */
  | { type: 'hello'; id: string };

interface Receiver {
  acked: number;
  sent: number;
  done: boolean;
  /** Counts streams: a newer one ends the older. */
  run: number;
  wake: () => void;
}

interface Outgoing {
  view: FileTransfer;
  blob: Blob;
  digest?: Promise<string | undefined>;
  receivers: Map<string, Receiver>;
}

interface Incoming {
  view: FileTransfer;
  folded: Blob[];
  pieces: Uint8Array<ArrayBuffer>[];
  pending: number;
  acked: number;
  patience?: ReturnType<typeof setTimeout>;
}

export class FileSharing extends Emitter<FileEvents> {
  readonly #channel: Channel;
  readonly #outgoing = new Map<string, Outgoing>();
  readonly #incoming = new Map<string, Incoming>();

  constructor(channel: Channel) {
    super();
    this.#channel = channel;
    channel.on('message', ({ from, data }) => {
      if (typeof data === 'string') this.#handleSteer(from, data);
      else void this.#handleChunk(from, data);
    });
    channel.on('open', () => this.#resume());
    if (channel.isOpen) this.#resume();
  }

  /** All transfers, in the order of their beginning. */
  get transfers(): FileTransfer[] {
    return [...this.#outgoing.values(), ...this.#incoming.values()].map((transfer) => transfer.view);
  }

  /** Offers a file to everybody, or to one. */
  async send({ blob, name }: FileSource, options: { to?: string } = {}): Promise<FileTransfer> {
    const id = newId();
    const peerId = options.to ?? '';
    const { size, type: mime } = blob;
    const view: FileTransfer = {
      id, direction: 'out', peerId, name, size, mime, state: 'offered', bytes: 0, receivers: { accepted: 0, done: 0 },
    };
    this.#outgoing.set(id, { view, blob, receivers: new Map() });
    this.emit('change', view);
    try {
      await this.#channel.send(JSON.stringify({ type: 'offer', id, name, size, mime } satisfies Steer), { to: peerId });
    } catch (error) {
      this.#change(this.#outgoing.get(id), { state: 'failed' });
      throw error;
    }
    return view;
  }

  /** Takes an offered file. */
  accept(id: string): void {
    const incoming = this.#incoming.get(id);
    if (incoming?.view.state !== 'offered') return;
    this.#change(incoming, { state: 'active' });
    this.#askForRest(incoming);
  }

  /** Does not take it. */
  decline(id: string): void {
    const incoming = this.#incoming.get(id);
    if (incoming?.view.state !== 'offered') return;
    this.#change(incoming, { state: 'declined' });
    this.#steer(incoming.view.peerId, { type: 'decline', id });
  }

  /** Ends a transfer, of either direction. */
  cancel(id: string): void {
    const outgoing = this.#outgoing.get(id);
    if (outgoing) {
      this.#endOutgoing(outgoing, 'cancelled');
      this.#steer(outgoing.view.peerId, { type: 'cancel', id });
      return;
    }
    const incoming = this.#incoming.get(id);
    if (!incoming || !isOpen(incoming.view.state)) return;
    this.#endIncoming(incoming, 'cancelled');
    this.#steer(incoming.view.peerId, { type: 'cancel', id });
  }

  /** Somebody left: what came from them will not come whole, and they take no more. */
  forget(peerId: string): void {
    for (const incoming of this.#incoming.values()) {
      if (incoming.view.peerId === peerId && isOpen(incoming.view.state)) this.#endIncoming(incoming, 'failed');
    }
    for (const outgoing of this.#outgoing.values()) {
      this.#dropReceiver(outgoing, peerId);
      if (outgoing.view.peerId === peerId && isOpen(outgoing.view.state)) this.#endOutgoing(outgoing, 'failed');
    }
  }

  /** Ends everything and lets go of all that was sent and received. */
  close(): void {
    for (const id of [...this.#outgoing.keys(), ...this.#incoming.keys()]) this.cancel(id);
    this.#outgoing.clear();
    this.#incoming.clear();
  }

  #handleSteer(from: string, text: string): void {
    const message = parse(text);
    if (!message) return;
    if (message.type === 'offer') return this.#handleOffer(from, message);
    if (message.type === 'hello') return this.#offerAgain(from);
    const outgoing = this.#outgoing.get(message.id);
    if (outgoing) {
      this.#handleReceiver(outgoing, from, message);
      return;
    }
    const incoming = this.#incoming.get(message.id);
    if (!incoming || incoming.view.peerId !== from) return;
    if (message.type === 'done' && incoming.view.state === 'done') this.#steer(from, { type: 'done', id: message.id });
    if (!isOpen(incoming.view.state)) return;
    if (message.type === 'done') void this.#finish(incoming, message.sha256);
    if (message.type === 'cancel') this.#endIncoming(incoming, 'cancelled');
  }

  #handleOffer(from: string, { id, name, size, mime }: Extract<Steer, { type: 'offer' }>): void {
    if (!/^[0-9a-f]{32}$/.test(id) || this.#incoming.has(id) || this.#outgoing.has(id)) return;
    if (!Number.isSafeInteger(size) || size < 0 || size > MOST_BYTES) return;
    if (typeof name !== 'string' || typeof mime !== 'string') return;
    const waiting = [...this.#incoming.values()].filter(({ view }) => view.peerId === from && view.state === 'offered');
    if (waiting.length >= MOST_WAITING || !this.#makePlace()) return;
    const view: FileTransfer = {
      id, direction: 'in', peerId: from, name: safeName(name), size, mime: mime.slice(0, 100), state: 'offered',
      bytes: 0, receivers: { accepted: 0, done: 0 },
    };
    this.#incoming.set(id, { view, folded: [], pieces: [], pending: 0, acked: 0 });
    this.emit('offer', view);
    this.emit('change', view);
  }

  /** Somebody came later, or had lost the channel; who knows an offer already passes it over. */
  #offerAgain(to: string): void {
    for (const { view } of this.#outgoing.values()) {
      const { id, name, size, mime, state, peerId } = view;
      if (peerId === '' && state !== 'cancelled' && state !== 'failed') {
        this.#steer(to, { type: 'offer', id, name, size, mime });
      }
    }
  }

  #handleReceiver(outgoing: Outgoing, from: string, message: Steer): void {
    if (outgoing.view.peerId !== '' && outgoing.view.peerId !== from) return;
    const receiver = outgoing.receivers.get(from);
    if (message.type === 'accept') {
      this.#startStream(outgoing, from, message.offset);
    } else if (message.type === 'ack' && receiver) {
      const { bytes } = message;
      if (!Number.isSafeInteger(bytes) || bytes < receiver.acked || bytes > receiver.sent) return;
      receiver.acked = bytes;
      receiver.wake();
      this.#showProgress(outgoing);
    } else if (message.type === 'done' && receiver) {
      receiver.acked = outgoing.view.size;
      receiver.done = true;
      this.#showProgress(outgoing);
    } else if (message.type === 'decline' || message.type === 'cancel') {
      this.#dropReceiver(outgoing, from);
      if (outgoing.view.peerId === from && isOpen(outgoing.view.state)) {
        this.#endOutgoing(outgoing, message.type === 'decline' ? 'declined' : 'cancelled');
      }
    }
  }

  #startStream(outgoing: Outgoing, peerId: string, offset: number): void {
    const { size, state } = outgoing.view;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > size) return;
    if (state === 'cancelled' || state === 'failed') {
      this.#steer(peerId, { type: 'cancel', id: outgoing.view.id });
      return;
    }
    const before = outgoing.receivers.get(peerId);
    before?.wake();
    const run = (before?.run ?? 0) + 1;
    const receiver: Receiver = before ?? { acked: 0, sent: 0, done: false, run, wake: () => {} };
    Object.assign(receiver, { acked: offset, sent: offset, done: false, run });
    outgoing.receivers.set(peerId, receiver);
    outgoing.digest ??= digest(outgoing.blob);
    this.#showProgress(outgoing);
    this.#stream(outgoing, peerId, receiver, run).catch(() => {
      // The channel is gone: the receiver asks again from where it is when there is a new one.
    });
  }

  async #stream(outgoing: Outgoing, peerId: string, receiver: Receiver, run: number): Promise<void> {
    const { id, size } = outgoing.view;
    const isCurrent = () => receiver.run === run && outgoing.receivers.get(peerId) === receiver;
    while (receiver.sent < size) {
      while (isCurrent() && receiver.sent - receiver.acked >= WINDOW_BYTES) {
        await new Promise<void>((resolve) => (receiver.wake = resolve));
      }
      if (!isCurrent()) return;
      const offset = receiver.sent;
      const data = new Uint8Array(await outgoing.blob.slice(offset, offset + CHUNK_BYTES).arrayBuffer());
      if (!isCurrent()) return;
      receiver.sent += data.length;
      await this.#channel.send(encodeChunk(id, offset, data), { to: peerId });
    }
    const sha256 = await outgoing.digest;
    if (isCurrent()) this.#steer(peerId, { type: 'done', id, sha256 });
  }

  #showProgress(outgoing: Outgoing): void {
    const all = [...outgoing.receivers.values()];
    const done = all.filter((receiver) => receiver.done).length;
    const bytes = all.length === 0 ? 0 : Math.min(...all.map((receiver) => receiver.acked));
    const state = all.length === 0 ? 'offered' : done === all.length ? 'done' : 'active';
    this.#change(outgoing, { bytes, state, receivers: { accepted: all.length, done } });
  }

  #dropReceiver(outgoing: Outgoing, peerId: string): void {
    const receiver = outgoing.receivers.get(peerId);
    // One who has it whole stays counted.
    if (!receiver || receiver.done) return;
    outgoing.receivers.delete(peerId);
    receiver.wake();
    if (isOpen(outgoing.view.state)) this.#showProgress(outgoing);
  }

  #endOutgoing(outgoing: Outgoing, state: FileState): void {
    if (!isOpen(outgoing.view.state)) return;
    const receivers = [...outgoing.receivers.values()];
    outgoing.receivers.clear();
    for (const receiver of receivers) receiver.wake();
    this.#change(outgoing, { state });
  }

  async #handleChunk(from: string, data: Uint8Array): Promise<void> {
    const chunk = decodeChunk(data);
    const incoming = chunk && this.#incoming.get(chunk.id);
    if (!incoming || incoming.view.peerId !== from || incoming.view.state !== 'active') return;
    const { bytes, size, id } = incoming.view;
    const received = chunk.offset + chunk.data.length;
    // What lies beyond a gap is a left-over of an earlier stream.
    if (chunk.offset > bytes || received > size) return;
    if (received <= bytes) {
      // The sender began again from an acknowledgement that did not reach it.
      this.#steer(from, { type: 'ack', id, bytes });
      return;
    }
    const fresh = chunk.data.slice(bytes - chunk.offset);
    incoming.pieces.push(fresh);
    incoming.pending += fresh.length;
    if (incoming.pending >= FOLD_BYTES) fold(incoming);
    this.#change(incoming, { bytes: received });
    this.#expectMore(incoming);
    if (received - incoming.acked >= ACK_BYTES || received === size) {
      incoming.acked = received;
      this.#steer(from, { type: 'ack', id, bytes: received });
    }
  }

  async #finish(incoming: Incoming, sha256: string | undefined): Promise<void> {
    const { id, size, bytes, peerId } = incoming.view;
    fold(incoming);
    // Never what the sender calls it: a page of theirs must not run as one of ours.
    const blob = new Blob(incoming.folded, { type: 'application/octet-stream' });
    const ours = bytes === size && sha256 !== undefined ? await digest(blob) : undefined;
    if (incoming.view.state !== 'active') return;
    const whole = bytes === size && blob.size === size && (ours === undefined || ours === sha256);
    if (!whole) {
      this.#endIncoming(incoming, 'failed');
      this.#steer(peerId, { type: 'cancel', id });
      return;
    }
    clearTimeout(incoming.patience);
    incoming.folded = [];
    this.#change(incoming, { state: 'done', blob });
    this.#steer(peerId, { type: 'done', id });
  }

  #endIncoming(incoming: Incoming, state: FileState): void {
    clearTimeout(incoming.patience);
    incoming.folded = [];
    incoming.pieces = [];
    this.#change(incoming, { state });
  }

  /** The channel stands (again): ask for the rest of everything unfinished, send the rest of it, and say hello. */
  #resume(): void {
    for (const incoming of this.#incoming.values()) if (incoming.view.state === 'active') this.#askForRest(incoming);
    for (const outgoing of this.#outgoing.values()) {
      for (const [peerId, { done, acked }] of outgoing.receivers) {
        if (!done) this.#startStream(outgoing, peerId, acked);
      }
    }
    this.#steer('', { type: 'hello', id: '' });
  }

  #askForRest(incoming: Incoming): void {
    const { id, peerId, bytes } = incoming.view;
    this.#steer(peerId, { type: 'accept', id, offset: bytes });
    this.#expectMore(incoming);
  }

  #expectMore(incoming: Incoming): void {
    clearTimeout(incoming.patience);
    incoming.patience = setTimeout(() => incoming.view.state === 'active' && this.#askForRest(incoming), PATIENCE_MS);
  }

  /** Forgets the oldest that is over, or else the oldest that waits; never one that is on its way. */
  #makePlace(): boolean {
    if (this.#incoming.size < MOST_OFFERS) return true;
    const all = [...this.#incoming.values()].map(({ view }) => view);
    const oldest = all.find(({ state }) => !isOpen(state)) ?? all.find(({ state }) => state === 'offered');
    return oldest !== undefined && this.#incoming.delete(oldest.id);
  }

  #change(transfer: Outgoing | Incoming | undefined, change: Partial<FileTransfer>): void {
    if (!transfer) return;
    transfer.view = { ...transfer.view, ...change };
    this.emit('change', transfer.view);
  }

  #steer(to: string, message: Steer): void {
    this.#channel.send(JSON.stringify(message), { to }).catch(() => {
      // Without a channel nobody hears it; `#resume` starts again when there is one.
    });
  }
}

function isOpen(state: FileState): boolean {
  return state === 'offered' || state === 'active';
}

function fold(incoming: Incoming): void {
  incoming.folded.push(new Blob(incoming.pieces));
  incoming.pieces = [];
  incoming.pending = 0;
}

function parse(text: string): Steer | undefined {
  try {
    const message = JSON.parse(text) as Steer;
    return typeof message?.type === 'string' && typeof message.id === 'string' ? message : undefined;
  } catch {
    return undefined;
  }
}

/** A name without a way to other folders, and without what is not seen or turns the order of letters round. */
function safeName(name: string): string {
  const seen = name.replace(/[\p{Cf}\p{Zl}\p{Zp}]/gu, '');
  return seen.replace(/[/\\\p{Cc}]/gu, '_').slice(0, 255) || 'file';
}

function newId(): string {
  return toHex(crypto.getRandomValues(new Uint8Array(16)));
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function encodeChunk(id: string, offset: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + data.length);
  for (let index = 0; index < 16; index++) bytes[index] = Number.parseInt(id.slice(index * 2, index * 2 + 2), 16);
  new DataView(bytes.buffer).setBigUint64(16, BigInt(offset));
  bytes.set(data, HEADER_BYTES);
  return bytes;
}

function decodeChunk(bytes: Uint8Array): { id: string; offset: number; data: Uint8Array } | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const offset = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(16));
  return { id: toHex(bytes.subarray(0, 16)), offset, data: bytes.subarray(HEADER_BYTES) };
}

/** SHA-256 in hex; `undefined` where that would be too much, or the page is not secure. */
async function digest(blob: Blob): Promise<string | undefined> {
  if (blob.size > MOST_DIGESTED || !globalThis.crypto?.subtle) return undefined;
  const hash = await crypto.subtle.digest('SHA-256', await blob.arrayBuffer());
  return toHex(new Uint8Array(hash));
}
