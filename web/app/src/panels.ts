/** What stands beside the pictures: the messages, or the people, or nothing. */

import { signal } from '@preact/signals';
import { dismissAll } from './toasts';

export type PanelName = 'chat' | 'people';

export const panel = signal<PanelName | null>(null);

/** Opens one in place of the other; `null` closes. */
export function openPanel(name: PanelName | null): void {
  if (name) dismissAll();
  panel.value = name;
}

export function togglePanel(name: PanelName): void {
  openPanel(panel.value === name ? null : name);
}
