/** The frames that are shown, and what is counted of them. */

import { batch, signal } from '@preact/signals';
import type { Frame } from '@veche/sdk/realtime';

/** So many of the newest are kept. */
const MOST = 500;

/** A frame, or something that happened to the connection. */
export interface Entry {
  id: number;
  direction: 'in' | 'out' | 'event';
  at: Date;
  /** Milliseconds since the entry before. */
  since: number | undefined;
  /** The type of the message, the name of the event. */
  kind: string;
  channel: string | undefined;
  /** In bytes. */
  size: number;
  summary: string;
  message: unknown;
  /** Something went wrong. */
  bad: boolean;
}

export const entries = signal<Entry[]>([]);
export const paused = signal(false);
export const held = signal(0);
export const lastAt = signal<number | undefined>(undefined);
export const counts = signal({ in: 0, out: 0, bytesIn: 0, bytesOut: 0 });

let waiting: Entry[] = [];
let nextId = 1;

/** Something went over the wire. */
export function addFrame(frame: Frame): void {
  const message = frame.message as Record<string, unknown> | null;
  const isObject = typeof message === 'object' && message !== null && !ArrayBuffer.isView(message);
  // The page's own measuring would fill the list; what is sent by hand has no id.
  if (isObject && message.id !== undefined && (message.type === 'ping' || message.type === 'pong')) return;
  const kind = frame.event ?? (isObject ? String(message.type ?? message.action ?? 'JSON') : ArrayBuffer.isView(message) ? 'binary' : 'text');
  const now = counts.value;
  batch(() => {
    counts.value =
      frame.direction === 'in'
        ? { ...now, in: now.in + 1, bytesIn: now.bytesIn + frame.size }
        : { ...now, out: now.out + 1, bytesOut: now.bytesOut + frame.size };
    add({
      direction: frame.direction,
      kind,
      channel: isObject && typeof message.channel === 'string' ? message.channel : undefined,
      size: frame.size,
      summary: summarize(message),
      message: frame.eventId ? { id: frame.eventId, event: frame.event, data: message } : message,
      bad: kind === 'error',
    });
  });
}

/** Something happened to the connection. */
export function addEvent(kind: string, summary: string, bad = false): void {
  add({ direction: 'event', kind, channel: undefined, size: 0, summary, message: undefined, bad });
}

export function clear(): void {
  waiting = [];
  batch(() => {
    entries.value = [];
    held.value = 0;
  });
}

export function togglePause(): void {
  batch(() => {
    paused.value = !paused.value;
    if (paused.value) return;
    entries.value = [...waiting, ...entries.value].slice(0, MOST);
    waiting = [];
    held.value = 0;
  });
}

function add(about: Omit<Entry, 'id' | 'at' | 'since'>): void {
  const now = Date.now();
  const since = lastAt.value === undefined ? undefined : now - lastAt.value;
  const entry: Entry = { ...about, id: nextId++, at: new Date(now), since };
  batch(() => {
    lastAt.value = now;
    if (paused.value) {
      waiting = [entry, ...waiting].slice(0, MOST);
      held.value = waiting.length;
    } else {
      entries.value = [entry, ...entries.value].slice(0, MOST);
    }
  });
}

/** One line that says what matters. */
function summarize(message: unknown): string {
  if (ArrayBuffer.isView(message)) return `${message.byteLength} B`;
  if (typeof message !== 'object' || message === null) return String(message);
  const one = message as Record<string, unknown>;
  const error = one.error as { code?: string; message?: string } | undefined;
  if (error) return `${error.code}: ${error.message}`;
  const file = (one.file ?? one) as Record<string, unknown>;
  if (one.binary_data !== undefined || one.file) {
    return [file.filename, file.content_type, file.size && `${file.size} B`].filter(Boolean).join(' · ');
  }
  if (one.title !== undefined) return `${one.title}: ${one.body ?? ''}`;
  const what = one.data ?? one.message ?? one.connection_id ?? one.message_id ?? one.joined ?? one.left;
  return what === undefined ? '' : typeof what === 'string' ? what : JSON.stringify(what);
}

/** JSON for the eye: what is long is cut, bytes are not spelled out. */
export function pretty(message: unknown): string {
  if (ArrayBuffer.isView(message)) {
    const bytes = new Uint8Array(message.buffer, message.byteOffset, Math.min(message.byteLength, 256));
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    return message.byteLength > 256 ? `${hex} …` : hex;
  }
  if (typeof message === 'string') return message;
  const shorten = (name: string, value: unknown) => {
    if (name === 'bytes' && ArrayBuffer.isView(value)) return undefined;
    return typeof value === 'string' && value.length > 2000 ? `${value.slice(0, 200)}… (${value.length})` : value;
  };
  return JSON.stringify(message, shorten, 2);
}
