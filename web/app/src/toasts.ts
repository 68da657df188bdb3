/** Short messages that go away by themselves, and what screen readers are told. */

import { signal } from '@preact/signals';

export interface Toast {
  id: number;
  text: string;
  kind: 'info' | 'error';
  /** What can be done about it, at once. */
  action?: { label: string; run: () => void };
}

const SHOWN_MS = 6_000;
/** Something to do takes longer than something to read. */
const ACTION_MS = 12_000;
const MOST = 3;

export const toasts = signal<readonly Toast[]>([]);
/** The last thing worth saying aloud. */
export const announcement = signal('');

let nextId = 1;

/** Shows a message, and says it. */
export function toast(text: string, kind: Toast['kind'] = 'info', action?: Toast['action']): void {
  const id = nextId++;
  toasts.value = [...toasts.value.filter((shown) => shown.text !== text), { id, text, kind, action }].slice(-MOST);
  announce(text);
  setTimeout(() => dismiss(id), action ? ACTION_MS : SHOWN_MS);
}

/** Says something without showing it. */
export function announce(text: string): void {
  announcement.value = text;
}

/** Those who look at it now need not be told any more. */
export function dismissAll(): void {
  toasts.value = [];
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((shown) => shown.id !== id);
}
