/** Short messages that go away by themselves, and what screen readers are told. */

import { signal } from '@preact/signals';

export interface Toast {
  id: number;
  text: string;
  kind: 'info' | 'error';
}

const SHOWN_MS = 6_000;
const MOST = 3;

export const toasts = signal<readonly Toast[]>([]);
/** The last thing worth saying aloud. */
export const announcement = signal('');

let nextId = 1;

/** Shows a message, and says it. */
export function toast(text: string, kind: Toast['kind'] = 'info'): void {
  const id = nextId++;
  toasts.value = [...toasts.value.filter((shown) => shown.text !== text), { id, text, kind }].slice(-MOST);
  announcement.value = text;
  setTimeout(() => dismiss(id), SHOWN_MS);
}


/** Those who look at it now need not be told any more. */
export function dismissAll(): void {
  toasts.value = [];
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((shown) => shown.id !== id);
}
