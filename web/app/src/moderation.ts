/** Who may do what in the call, who waits before it, and what moderators do: everything the parts read and call. */

import { batch, computed, signal } from '@preact/signals';
import { RoomError, type Action, type Banned, type Room, type RoomInfo, type RoomRecording, type TrackSource, type WaitingPerson } from '@veche/sdk';
import { t, type TextKey } from './i18n';
import { openPanel, panel } from './panels';
import { announce, toast } from './toasts';

/** Somebody whom this page has banned, for as long as the call lasts. */
export interface BannedPerson {
  who: Banned;
  name: string;
}

/** Whom a moderator is about to send out. */
export interface SendingOut {
  kind: 'remove' | 'ban';
  peerId: string;
  name: string;
  /** Known by a token, so that a ban holds. */
  isUser: boolean;
}

/** What a person switches on, and the grant that it takes. */
const NEEDED = { microphone: 'publish_audio', camera: 'publish_video', screen: 'publish_screen' } as const;
/** What is told when it is taken or given. */
const TOLD = {
  publish_audio: 'microphone',
  publish_video: 'camera',
  publish_screen: 'screen',
  publish_data: 'chat',
  subscribe: 'watching',
  moderate: 'moderating',
} as const;

let current: Room | undefined;

/** Absent: the server has not said yet, and everything may be tried. */
const grants = signal<readonly Action[] | undefined>(undefined);
export const waiting = signal<readonly WaitingPerson[]>([]);
export const roomInfo = signal<RoomInfo | undefined>(undefined);
/** The recording that runs. */
export const recording = signal<RoomRecording | undefined>(undefined);
export const sendingOut = signal<SendingOut | null>(null);
export const banned = signal<readonly BannedPerson[]>([]);

/** Only where the server has said so: nobody is offered to record by mistake. */
export const mayRecord = computed(() => grants.value?.includes('record') ?? false);
export const moderates = computed(() => grants.value?.includes('moderate') ?? false);
/** Whether there is anybody whom a lock or a waiting room keeps out: on a server without tokens everybody moderates. */
export const hasDoor = computed(() => !isOpenToAll.value || isClosed.value);
const isOpenToAll = computed(() => !hasToken.value && may('administer'));
const isClosed = computed(() => Boolean(roomInfo.value?.locked || roomInfo.value?.waiting_room));
const hasToken = signal(false);

/** Whether we may do this, as far as we know. */
export function may(action: Action): boolean {
  return grants.value?.includes(action) ?? true;
}

/** Why a source cannot be switched on; `undefined` where it can. */
export function forbidden(source: keyof typeof NEEDED): TextKey | undefined {
  return may(NEEDED[source]) ? undefined : `forbidden.${source}`;
}

/** Follows a room until the returned function is called. */
export function followModeration(room: Room, withToken: boolean): () => void {
  current = room;
  hasToken.value = withToken;
  const stops = [
    room.on('room', handleRoom),
    room.on('grants', handleGrants),
    room.on('waiting', handleWaiting),
    room.on('recording', handleRecording),
    room.on('moderated', ({ by, sources }) => handleMuted(room, by, sources)),
  ];
  return () => {
    for (const stop of stops) stop();
    batch(forget);
  };
}

/** Nothing of one call is known in the next. */
function forget(): void {
  grants.value = undefined;
  waiting.value = [];
  banned.value = [];
  roomInfo.value = undefined;
  recording.value = undefined;
  sendingOut.value = null;
}

export function muteTheir(peerId: string, source: TrackSource): void {
  void attempt((room) => room.moderation.mute(peerId, { source }));
}

export function removePerson(peerId: string, reason: string): void {
  void attempt((room) => room.moderation.remove(peerId, reason || undefined));
}

export async function banPerson(peerId: string, name: string, reason: string): Promise<void> {
  const userId = current?.participants.find((one) => one.peerId === peerId)?.userId;
  // By the peer id: who has gone meanwhile is banned as well, and the server knows whose it is.
  const done = await attempt((room) => room.moderation.ban({ peerId }, reason || undefined));
  const who = userId === undefined ? { peerId } : { userId };
  if (done) banned.value = [...banned.value, { who, name }];
}

export async function unbanPerson(person: BannedPerson): Promise<void> {
  const done = await attempt((room) => room.moderation.unban(person.who));
  if (done) banned.value = banned.value.filter((one) => one !== person);
}

export function setLocked(locked: boolean): void {
  void attempt((room) => room.moderation.lock(locked));
}

export function setWaitingRoom(enabled: boolean): void {
  void attempt((room) => room.moderation.setWaitingRoom(enabled));
}

export function setRecording(on: boolean): void {
  void attempt((room) => room.moderation.record(on));
}

export function admit(peerId: string): void {
  void attempt((room) => room.moderation.admit(peerId));
}

export function deny(peerId: string): void {
  void attempt((room) => room.moderation.deny(peerId));
}

/** Does it, and says what went wrong. */
async function attempt(work: (room: Room) => Promise<void>): Promise<boolean> {
  if (!current) return false;
  try {
    await work(current);
    return true;
  } catch (error) {
    const { code, message } = error as RoomError;
    // Whoever was meant has gone, or another moderator was quicker: there is nothing to be done any more.
    if (code === 'peer_not_found') toast(t('moderation.gone'));
    else toast(t('moderation.failed', { message }), 'error');
    return false;
  }
}

function handleRoom(info: RoomInfo): void {
  const before = roomInfo.value;
  roomInfo.value = info;
  if (before && before.locked !== info.locked) toast(t(info.locked ? 'room.locked' : 'room.unlocked'));
}

function handleRecording(now: RoomRecording | undefined): void {
  const before = recording.value;
  recording.value = now;
  if (before?.recording_id === now?.recording_id) return;
  toast(t(now ? 'recording.began' : 'recording.ended'));
}

function handleGrants(now: readonly Action[]): void {
  const before = grants.value;
  grants.value = now;
  if (!before) return;
  tellChange('taken', before, now);
  tellChange('given', now, before);
}

/** What is in one list and not in the other: alone with what it means, several in one sentence. */
function tellChange(kind: 'taken' | 'given', having: readonly Action[], lacking: readonly Action[]): void {
  const names = Object.entries(TOLD).flatMap(([action, name]) =>
    having.includes(action as Action) && !lacking.includes(action as Action) ? [name] : [],
  );
  const [only] = names;
  if (names.length === 1 && only) toast(t(`${kind}.${only}`));
  else if (only) toast(t(`${kind}.several`, { list: names.map((name) => t(`grant.${name}`)).join(', ') }));
}

function handleWaiting(now: readonly WaitingPerson[]): void {
  const known = new Set(waiting.value.map(({ peerId }) => peerId));
  waiting.value = now;
  const last = now.findLast(({ peerId }) => !known.has(peerId));
  if (!last) return;
  const text = t('waiting.knocks', { name: last.name });
  // Who looks at the list sees it there.
  if (panel.value === 'people') announce(text);
  else toast(text, 'info', { label: t('waiting.show'), run: () => openPanel('people') });
}

function handleMuted(room: Room, by: string | undefined, sources: readonly TrackSource[]): void {
  const name = room.participants.find(({ peerId }) => peerId === by)?.name ?? t('moderation.somebody');
  for (const source of sources) if (source !== 'screen-audio') toast(t(`muted.${source}`, { name }));
}
