/**
 * The framing of data channel messages (PROTOCOL.md): a byte of flags, a byte with the length of the peer id, the
 * peer id (receiver on the way out, sender on the way in), and the payload.
 */

const MORE = 1;
const TEXT = 2;
const MOST_ID_BYTES = 64;
/** Unfinished messages of all senders together, unless a single one may be larger. */
const MOST_IN_ALL = 16 * 1024 * 1024;

export interface Frame {
  /** Further fragments of the same message follow. */
  more: boolean;
  text: boolean;
  /** Empty: everybody. */
  peerId: string;
  payload: Uint8Array;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One frame. Throws a `RangeError` when the peer id is too long. */
export function encodeFrame(frame: Frame): Uint8Array<ArrayBuffer> {
  const id = encoder.encode(frame.peerId);
  if (id.length > MOST_ID_BYTES) throw new RangeError('a peer id has at most 64 bytes');
  const bytes = new Uint8Array(2 + id.length + frame.payload.length);
  bytes[0] = (frame.more ? MORE : 0) | (frame.text ? TEXT : 0);
  bytes[1] = id.length;
  bytes.set(id, 2);
  bytes.set(frame.payload, 2 + id.length);
  return bytes;
}

/** Reads a frame; `undefined` when it is none. */
export function decodeFrame(bytes: Uint8Array): Frame | undefined {
  const [flags, length] = bytes;
  if (flags === undefined || length === undefined) return undefined;
  if (length > MOST_ID_BYTES || bytes.length < 2 + length) return undefined;
  return {
    more: (flags & MORE) !== 0,
    text: (flags & TEXT) !== 0,
    peerId: decoder.decode(bytes.subarray(2, 2 + length)),
    payload: bytes.subarray(2 + length),
  };
}

/** The frames of a message, none larger than `mostBytes`. */
export function* fragment(
  message: { text: boolean; peerId: string; payload: Uint8Array },
  mostBytes: number,
): Generator<Uint8Array<ArrayBuffer>> {
  const room = mostBytes - 2 - encoder.encode(message.peerId).length;
  if (room < 1) throw new RangeError('no room for a payload');
  let start = 0;
  do {
    const payload = message.payload.subarray(start, start + room);
    start += room;
    yield encodeFrame({ ...message, payload, more: start < message.payload.length });
  } while (start < message.payload.length);
}

/** A whole message. */
export interface Message {
  from: string;
  data: string | Uint8Array;
}

/** Puts fragments together, per sender, and never holds more than it should. */
export class Reassembly {
  readonly #parts = new Map<string, { pieces: Uint8Array[]; bytes: number }>();
  readonly #mostPerSender: number;
  readonly #mostInAll: number;
  #bytes = 0;

  /** The largest message that is put together, and how much all unfinished ones may take. */
  constructor(mostPerSender: number, mostInAll = Math.max(mostPerSender, Math.min(mostPerSender * 4, MOST_IN_ALL))) {
    this.#mostPerSender = mostPerSender;
    this.#mostInAll = mostInAll;
  }

  /** Bytes that wait for their last fragment. */
  get held(): number {
    return this.#bytes;
  }

  /** Takes a frame; gives the message that it completes. */
  take(frame: Frame): Message | undefined {
    const partial = this.#parts.get(frame.peerId);
    if (!partial && !frame.more) return finish(frame, [frame.payload], frame.payload.length);
    const whole = partial ?? { pieces: [], bytes: 0 };
    const size = frame.payload.length;
    const tooLarge = whole.bytes + size > this.#mostPerSender || this.#bytes + size > this.#mostInAll;
    if (whole.bytes !== Infinity && tooLarge) {
      // Remembered as overlong until its last fragment has passed, so that its tail is not taken for a message.
      this.#bytes -= whole.bytes;
      whole.pieces = [];
      whole.bytes = Infinity;
    }
    if (whole.bytes !== Infinity) {
      whole.pieces.push(frame.payload.slice());
      whole.bytes += size;
      this.#bytes += size;
    }
    if (frame.more) {
      this.#parts.set(frame.peerId, whole);
      return undefined;
    }
    this.#parts.delete(frame.peerId);
    if (whole.bytes === Infinity) return undefined;
    this.#bytes -= whole.bytes;
    return finish(frame, whole.pieces, whole.bytes);
  }

  /** A sender is gone: the rest of their message will not come. */
  forget(peerId: string): void {
    const partial = this.#parts.get(peerId);
    if (partial && partial.bytes !== Infinity) this.#bytes -= partial.bytes;
    this.#parts.delete(peerId);
  }
}

function finish(frame: Frame, pieces: Uint8Array[], bytes: number): Message {
  const payload = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    payload.set(piece, at);
    at += piece.length;
  }
  return { from: frame.peerId, data: frame.text ? decoder.decode(payload) : payload };
}
