/** Binary WebSocket frames: bytes with a small header, instead of base64 in JSON (messaging/PROTOCOL.md). */

import type { BinaryData, Target } from './protocol';

/** The first byte: version 1, and which way it goes. */
const PUBLISH = 0x11;
const DELIVERY = 0x12;

const HAS_ID = 0x01;
const PERSISTENT = 0x02;
const TO_USER = 0x04;
const TO_CONNECTION = 0x08;

/** Version, flags, offset, epoch, time. */
const DELIVERY_HEAD = 22;

export interface BinaryRequest extends Target {
  id?: number;
  bytes: Uint8Array;
  content_type?: string;
  filename?: string;
  idempotency_key?: string;
  persistent?: boolean;
}

/** The frame of bytes for the server. Throws where a text has more than 255 bytes. */
export function toFrame(request: BinaryRequest): Uint8Array<ArrayBuffer> {
  let flags = request.persistent ? PERSISTENT : 0;
  let target = '';
  if (request.channel) {
    target = request.channel;
  } else if (request.user_id) {
    flags |= TO_USER;
    target = request.user_id;
  } else if (request.connection_id) {
    flags |= TO_CONNECTION;
    target = request.connection_id;
  }
  if (request.id !== undefined) flags |= HAS_ID;
  const texts = [target, request.content_type, request.filename, request.idempotency_key].map((text) => {
    const encoded = new TextEncoder().encode(text ?? '');
    if (encoded.length > 255) throw new RangeError(`a text of a binary frame has at most 255 bytes: ${text}`);
    return encoded;
  });
  const head = 2 + (request.id === undefined ? 0 : 4) + texts.reduce((sum, text) => sum + 1 + text.length, 0);
  const frame = new Uint8Array(head + request.bytes.length);
  frame.set([PUBLISH, flags]);
  let place = 2;
  if (request.id !== undefined) {
    new DataView(frame.buffer).setUint32(place, request.id);
    place += 4;
  }
  for (const text of texts) {
    frame[place] = text.length;
    frame.set(text, place + 1);
    place += 1 + text.length;
  }
  frame.set(request.bytes, place);
  return frame;
}

/** The `binary` message of a frame from the server, as JSON would have brought it; the base64 is made when asked for. */
export function fromFrame(buffer: ArrayBuffer): BinaryData {
  const view = new DataView(buffer);
  const all = new Uint8Array(buffer);
  if (all[0] !== DELIVERY) throw new RangeError('a binary frame of an unknown version');
  const [flags, offset, epoch, time] = [view.getUint8(1), view.getBigUint64(2), view.getUint32(10), view.getBigUint64(14)];
  let place = DELIVERY_HEAD;
  const text = (): string | undefined => {
    const end = place + 1 + view.getUint8(place);
    if (end > all.length) throw new RangeError('a binary frame ends within its header');
    const read = new TextDecoder().decode(all.subarray(place + 1, end));
    place = end;
    return read || undefined;
  };
  const [message_id, channel, content_type, filename] = [text(), text(), text(), text()];
  const sender = { user_id: text(), name: text(), connection_id: text() };
  const bytes = all.subarray(place);
  let base64: string | undefined;
  return {
    type: 'binary',
    ...(channel ? { channel, offset: Number(offset), epoch: epoch.toString(16).padStart(8, '0') } : {}),
    get binary_data() {
      base64 ??= toBase64(bytes);
      return base64;
    },
    content_type: content_type ?? 'application/octet-stream',
    filename,
    size: bytes.length,
    message_id,
    persistent: (flags & PERSISTENT) !== 0,
    sender,
    timestamp: new Date(Number(time)).toISOString(),
    bytes,
  };
}

/** In pieces, since a call takes only so many arguments. */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let place = 0; place < bytes.length; place += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(place, place + 0x8000));
  }
  return btoa(text);
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const decoded = atob(text);
  const bytes = new Uint8Array(decoded.length);
  for (let place = 0; place < decoded.length; place++) bytes[place] = decoded.charCodeAt(place);
  return bytes;
}
