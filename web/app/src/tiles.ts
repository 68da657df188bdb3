/** The tiles of the call: who is shown, in which order, and which of them large. */

import { computed } from '@preact/signals';
import type { ConnectionQuality, RemoteParticipant, RemoteTrack } from '@veche/sdk';
import { t } from './i18n';
import { ownName, participants, pinned, self, sources } from './session';

export interface Tile {
  key: string;
  peerId: string;
  kind: 'camera' | 'screen';
  /** The person's name. */
  name: string;
  /** What is written on the tile. */
  label: string;
  isLocal: boolean;
  stream?: MediaStream;
  trackId?: string;
  rtpTimestamp?: number;
  muted: boolean;
  speaking: boolean;
  connected: boolean;
  quality: ConnectionQuality;
  /** The picture is mirrored, as in a mirror. */
  mirrored: boolean;
  noCodec: boolean;
  /** No new pictures come for now: our own network does not carry them. */
  paused: boolean;
}

export const tiles = computed<Tile[]>(() => [...ownTiles(), ...participants.value.flatMap(remoteTiles)]);

/** The keys of the tiles on the stage: the pinned one, or else other people's screens. */
export const staged = computed<string[]>(() => {
  const pin = pinned.value;
  if (pin !== null && tiles.value.some((tile) => tile.key === pin)) return [pin];
  return tiles.value.filter((tile) => tile.kind === 'screen' && !tile.isLocal).map((tile) => tile.key);
});

/** Whom the server shall show first: the pinned, then those who share a screen. */
export const wantedPeers = computed<string[]>(() => {
  const keys = new Set(staged.value);
  const screens = tiles.value.filter((tile) => tile.kind === 'screen' && !tile.isLocal);
  const first = tiles.value.filter((tile) => keys.has(tile.key) && !tile.isLocal);
  return [...new Set([...first, ...screens].map((tile) => tile.peerId))];
});

function ownTiles(): Tile[] {
  const { peerId, name, quality, speaking } = self.value;
  const { microphone, camera, screen } = sources.value;
  const base = { peerId, name: name || ownName.value, isLocal: true, connected: true, noCodec: false, paused: false };
  const own: Tile = {
    ...base,
    key: 'self:camera',
    kind: 'camera',
    label: t('tile.you'),
    stream: camera.media ? streamOf(camera.media) : undefined,
    muted: !microphone.on,
    speaking: speaking && microphone.on,
    quality,
    mirrored: camera.media?.getSettings().facingMode !== 'environment',
  };
  if (!screen.media) return [own];
  const shared: Tile = {
    ...own,
    key: 'self:screen',
    kind: 'screen',
    label: t('tile.ownScreen'),
    stream: streamOf(screen.media),
    muted: false,
    speaking: false,
    mirrored: false,
  };
  return [own, shared];
}

function remoteTiles(person: RemoteParticipant): Tile[] {
  const { peerId, name, connected, quality, speaking } = person;
  const find = (source: RemoteTrack['source']) => person.tracks.find((track) => track.source === source);
  const microphone = find('microphone');
  const screen = find('screen');
  const base = { peerId, name, isLocal: false, connected, quality, mirrored: false };
  const camera: Tile = {
    ...base,
    key: `${peerId}:camera`,
    kind: 'camera',
    label: name,
    muted: microphone?.muted ?? true,
    speaking,
    ...picture(find('camera')),
  };
  if (!screen) return [camera];
  const label = t('tile.screen', { name });
  const shared: Tile = {
    ...base, key: `${peerId}:screen`, kind: 'screen', label, muted: false, speaking: false, ...picture(screen),
  };
  return [shared, camera];
}

/** A muted or stopped track's last picture is never shown. */
function picture(
  track: RemoteTrack | undefined,
): Pick<Tile, 'stream' | 'trackId' | 'rtpTimestamp' | 'noCodec' | 'paused'> {
  if (!track || track.muted) return { noCodec: false, paused: false };
  const { slot, trackId, reason, paused } = track;
  return {
    trackId,
    stream: slot?.stream,
    rtpTimestamp: slot?.rtpTimestamp,
    noCodec: reason === 'no-common-codec',
    paused: paused === 'bandwidth',
  };
}

const streams = new WeakMap<MediaStreamTrack, MediaStream>();

/** Always the same stream for the same track, so that a video is not started anew. */
export function streamOf(track: MediaStreamTrack): MediaStream {
  let stream = streams.get(track);
  if (!stream) {
    stream = new MediaStream([track]);
    streams.set(track, stream);
  }
  return stream;
}

/** Up to two letters for a person without a picture. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return letters.map((word) => [...(word ?? '')][0] ?? '').join('').toLocaleUpperCase() || '?';
}

/** A person's colour: a hue made of the name. */
export function hueOf(name: string): number {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 360;
  return hash;
}
