/** The page's state and what a person can do: everything the parts read and call. */

import { batch, computed, signal } from '@preact/signals';
import {
  LocalMedia,
  Room,
  RoomError,
  type ErrorBody,
  type LocalTrack,
  type MediaConnection,
  type RemoteParticipant,
  type RoomState,
} from '@veche/sdk';
import { startChat, stopChat } from './chat';
import { t } from './i18n';
import { followModeration, forbidden } from './moderation';
import { inviteLink, mayOpenUnasked, readOptions, roomAddress } from './options';
import { explainClose, explainMedia } from './problems';
import { isFresh, storedCall, storedName, storedPeer, type StoredCall } from './storage';
import { announce, dismissAll, toast } from './toasts';

declare global {
  interface Window {
    /** The room of this page: for tests and for the curious. */
    veche?: Room;
  }
}

/** How old the time of the stored call may become. */
const REMEMBER_MS = 10_000;

export type Page = 'join' | 'waiting' | 'call' | 'left';

export const options = readOptions(location.href);
export const page = signal<Page>('join');
export const roomName = signal(options.room);
export const ownName = signal(options.name || storedName.read());
export const joining = signal(false);
/** Why the last attempt failed, or the last call ended. */
export const ending = signal<ErrorBody | null>(null);

export const room = signal<Room | null>(null);
export const state = signal<RoomState>('idle');
export const connection = signal<MediaConnection>('connecting');
export const participants = signal<readonly RemoteParticipant[]>([]);
export const localTracks = signal<readonly LocalTrack[]>([]);
/** Our own names, quality and speaking, as the server sees them. */
export const self = signal<Pick<Room, 'peerId' | 'name' | 'quality' | 'speaking'>>({
  peerId: '',
  name: '',
  quality: 'excellent',
  speaking: false,
});
export const audioStreams = signal<Room['audioStreams']>([]);
/** The pinned tile's key. */
export const pinned = signal<string | null>(null);
/** The browser waits for a click before it plays sound. */
export const soundBlocked = signal(false);
/** Where sound goes: a device id, empty for the default. */
export const speaker = signal('');

export const media = new LocalMedia();
const mediaVersion = signal(0);
media.on('change', () => {
  mediaVersion.value += 1;
  remember();
});
media.on('problem', ({ source, problem }) => {
  if (page.value === 'call') toast(explainMedia(source, problem), 'error');
});

/** Microphone, camera and screen as they are now. */
export const sources = computed(() => {
  void mediaVersion.value;
  return { microphone: media.get('microphone'), camera: media.get('camera'), screen: media.get('screen') };
});

export const peopleCount = computed(() => participants.value.length + 1);

/** Begins: back to the call after a reload, or with `?autojoin=1` straight in, or the join page. */
export function begin(): void {
  setInterval(remember, REMEMBER_MS);
  addEventListener('pagehide', remember);
  const call = storedCall.read();
  if (call && call.room === roomName.value) {
    ownName.value = call.name;
    if (isFresh(call, Date.now())) {
      void openMedia(call.microphone, call.camera);
      void join(call);
      return;
    }
    storedCall.clear();
  }
  const straightIn = options.autojoin && roomName.value !== '';
  if (straightIn && !mayOpenUnasked(location.hostname, navigator.webdriver)) {
    void join();
    return;
  }
  const ready = openMedia(true, true);
  if (straightIn) void ready.then(() => join());
}

async function openMedia(microphone: boolean, camera: boolean): Promise<void> {
  if (microphone && camera) await media.openBoth();
  else if (microphone) await media.setMicrophone(true);
  else if (camera) await media.setCamera(true);
}

/** Joins; `call` is one to come back to. */
export async function join(call?: StoredCall): Promise<void> {
  if (joining.value) return;
  const name = ownName.value.trim() || t('join.nameless');
  const { codec, simulcast, svc, iceTransportPolicy, turnTransport } = options;
  const joined = new Room({ codec, simulcast, svc, iceTransportPolicy, turnTransport });
  follow(joined);
  joining.value = true;
  ending.value = null;
  if (call) page.value = 'call';
  history.replaceState(null, '', roomAddress(location.href, roomName.value));
  storedName.write(ownName.value.trim());
  try {
    const { token: resumeToken, resumeSeconds } = call ?? {};
    await joined.connect(location.origin, {
      room: roomName.value,
      name,
      accessToken: options.accessToken,
      peerId: storedPeer.read(roomName.value),
      resumeToken,
      resumeSeconds,
    });
    page.value = 'call';
  } catch (error) {
    const { code, message } = error as RoomError;
    batch(() => {
      // Who does not want to wait any longer knows why it is over.
      ending.value = code === 'left' ? null : { code: code ?? 'other', message };
      room.value = null;
      page.value = 'join';
    });
  } finally {
    joining.value = false;
  }
}

export function leave(): void {
  room.value?.leave();
}

/** From the last page back into the room. */
export function rejoin(): void {
  void openMedia(true, true).then(() => join());
}

/** From the last page to the first. */
export function goHome(): void {
  roomName.value = '';
  ending.value = null;
  history.replaceState(null, '', `/${location.search}`);
  page.value = 'join';
  void openMedia(true, true);
}

export function toggleMicrophone(): void {
  if (isAllowed('microphone')) void media.setMicrophone(!media.get('microphone').on);
}

export function toggleCamera(): void {
  if (isAllowed('camera')) void media.setCamera(!media.get('camera').on);
}

export function toggleScreen(): void {
  if (isAllowed('screen')) void media.setScreen(!media.get('screen').on);
}

/** Says why not, where a moderator has taken it. */
function isAllowed(source: 'microphone' | 'camera' | 'screen'): boolean {
  const why = forbidden(source);
  if (why) toast(t(why));
  return !why;
}

export const canShareScreen = typeof navigator.mediaDevices?.getDisplayMedia === 'function';

export function togglePin(key: string): void {
  pinned.value = pinned.value === key ? null : key;
}

export async function copyLink(): Promise<void> {
  const link = inviteLink(location.href, roomName.value);
  try {
    await navigator.clipboard.writeText(link);
    toast(t('control.copied'));
  } catch {
    // Only secure pages may write the clipboard: show the link to be copied by hand.
    toast(link);
  }
}

/** Follows a room with the page's state until it is closed. */
function follow(next: Room): void {
  const stops = [
    media.attach(next),
    followModeration(next, options.accessToken !== undefined),
    next.on('state', handleState),
    next.on('media', (value) => (connection.value = value)),
    next.on('localTracks', (value) => (localTracks.value = value)),
    next.on('self', () => {
      const { peerId, name, quality, speaking } = next;
      self.value = { peerId, name, quality, speaking };
    }),
    next.on('participants', (value) => {
      batch(() => {
        participants.value = value;
        audioStreams.value = next.audioStreams;
      });
    }),
    next.on('participant-joined', ({ name }) => toast(t('call.joined', { name }))),
    next.on('participant-left', ({ name, reason }) => {
      toast(t(reason === 'removed' ? 'call.removed' : 'call.left', { name }));
    }),
    next.on('error', ({ code, message }) => {
      if (code === 'offers_refused') toast(t('problem.refused', { message }), 'error');
    }),
    next.on('closed', (reason) => {
      for (const stop of stops) stop();
      handleClosed(next, reason);
    }),
    next.on('token', (token) => {
      lastToken = token;
      remember();
    }),
  ];
  batch(() => {
    room.value = next;
    state.value = next.state;
    self.value = { peerId: '', name: '', quality: 'excellent', speaking: false };
    participants.value = [];
    audioStreams.value = [];
    pinned.value = null;
  });
  window.veche = next;
  startChat(next);
}

let lastToken = '';

/** Who comes back after too long a loss may have to wait before the room again. */
function handleState(now: RoomState): void {
  batch(() => {
    state.value = now;
    if (now === 'waiting') page.value = 'waiting';
    if (now === 'connected' && page.value === 'waiting') page.value = 'call';
  });
}

function handleClosed(closed: Room, reason: ErrorBody): void {
  if (room.value !== closed) return;
  // The place may still be there when the server is.
  if (reason.code !== 'unreachable') storedCall.clear();
  lastToken = '';
  stopChat();
  dismissAll();
  // Without a token a ban keeps out a peer id: whoever is sent out does not get a new one by the button to join again.
  if (reason.code === 'removed') storedPeer.write(roomName.value, closed.peerId);
  if ((page.value !== 'call' && page.value !== 'waiting') || joining.value) return;
  media.close();
  batch(() => {
    ending.value = reason;
    room.value = null;
    page.value = 'left';
  });
  // To be seen it stands on the page.
  if (reason.code !== 'left') announce(explainClose(reason));
}

/** Keeps what a reload needs. */
function remember(): void {
  if (!room.value || !lastToken) return;
  storedCall.write({
    room: roomName.value,
    name: ownName.value,
    token: lastToken,
    // What is still being asked for will be on.
    microphone: isWanted('microphone'),
    camera: isWanted('camera'),
    resumeSeconds: room.value.resumeSeconds,
    at: Date.now(),
  });
}

function isWanted(source: 'microphone' | 'camera'): boolean {
  const { on, pending } = media.get(source);
  return on || pending;
}
