/** Messages and files of the call: over data channels, kept nowhere. */

import { computed, effect, signal } from '@preact/signals';
import { FileSharing, type Channel, type FileTransfer, type Room } from '@veche/sdk';
import { t } from './i18n';
import { openPanel, panel } from './panels';
import { toast } from './toasts';

/** A line of the conversation: words or a file. */
export interface Entry {
  id: string;
  /** Empty: our own. */
  peerId: string;
  name: string;
  at: number;
  text?: string;
  /** The transfer of this id. */
  fileId?: string;
}

const MOST_ENTRIES = 500;
const MOST_TEXT = 4_000;

export const entries = signal<readonly Entry[]>([]);
export const files = signal<ReadonlyMap<string, FileTransfer>>(new Map());
const seen = signal(0);
const received = signal(0);
export const unread = computed(() => received.value - seen.value);
effect(() => {
  if (panel.value === 'chat') seen.value = received.value;
});

let channel: Channel | undefined;
let sharing: FileSharing | undefined;
let nextId = 1;

/** Opens the channels of a room. */
export function startChat(room: Room): void {
  stopChat();
  entries.value = [];
  const words = room.channel('chat');
  const transfers = new FileSharing(room.channel('files'));
  channel = words;
  sharing = transfers;
  const nameOf = (peerId: string) => room.participants.find((one) => one.peerId === peerId)?.name ?? peerId;
  words.on('message', ({ from, data }) => {
    if (typeof data !== 'string') return;
    add({ peerId: from, name: nameOf(from), text: data.slice(0, MOST_TEXT) });
  });
  transfers.on('offer', (file) => add({ peerId: file.peerId, name: nameOf(file.peerId), fileId: file.id }));
  transfers.on('change', (file) => (files.value = new Map(files.value).set(file.id, file)));
  room.on('participant-left', ({ peerId }) => transfers.forget(peerId));
}

export function stopChat(): void {
  openPanel(null);
  channel = undefined;
  sharing?.close();
  sharing = undefined;
  // Received files are large: they go with the call.
  files.value = new Map();
}

/** Sends words to everybody; `false` when they could not be sent. */
export async function sendText(text: string): Promise<boolean> {
  try {
    await channel?.send(text.slice(0, MOST_TEXT));
    add({ peerId: '', name: t('tile.you'), text });
    return true;
  } catch {
    toast(t('chat.unsent'), 'error');
    return false;
  }
}

export async function sendFile(file: File): Promise<void> {
  try {
    const transfer = await sharing?.send({ blob: file, name: file.name });
    if (transfer) add({ peerId: '', name: t('tile.you'), fileId: transfer.id });
  } catch {
    toast(t('chat.unsent'), 'error');
  }
}

export const acceptFile = (id: string) => sharing?.accept(id);
export const declineFile = (id: string) => sharing?.decline(id);
export const cancelFile = (id: string) => sharing?.cancel(id);

function add(entry: Omit<Entry, 'id' | 'at'>): void {
  const all = [...entries.value, { ...entry, id: String(nextId++), at: Date.now() }];
  const gone = all.slice(0, -MOST_ENTRIES).flatMap(({ fileId }) => fileId ?? []);
  if (gone.length > 0) files.value = new Map([...files.value].filter(([id]) => !gone.includes(id)));
  entries.value = all.slice(-MOST_ENTRIES);
  if (entry.peerId === '') return;
  received.value += 1;
  if (panel.value !== 'chat') toast(t('chat.new', { name: entry.name }));
}
