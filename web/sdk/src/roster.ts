/** Everybody else in the room, as the server tells it, and as a page wants to read it. */

import type {
  ActiveSpeaker,
  ConnectionQuality,
  Participant,
  PeerQuality,
  SlotReason,
  Track,
  TrackKind,
  TrackSource,
} from './protocol';
import type { SlotTable } from './slots';
import type { ReceivingSlot } from './transport';

/** A slot that carries a track now. */
export interface CarriedBy {
  mid: string;
  /** Holds the one track to play; the same object for as long as the slot exists. */
  stream: MediaStream;
  /** Pictures before this RTP timestamp are still somebody else's: see `whenFrame`. Absent while the track is paused. */
  rtpTimestamp?: number;
}

/** A track of somebody else. */
export interface RemoteTrack {
  trackId: string;
  kind: TrackKind;
  source: TrackSource;
  muted: boolean;
  /** Absent while no slot carries it. */
  slot?: CarriedBy;
  /** Why no new pictures come: our own network does not carry them now. They come back by themselves. */
  paused?: 'bandwidth';
  /** Why a slot that was meant for it shows nothing. */
  reason?: SlotReason;
}

/** Somebody else. A new object whenever anything in it changed. */
export interface RemoteParticipant {
  peerId: string;
  name: string;
  metadata?: unknown;
  /** Which user they are, as their token says; absent for who is anonymous. */
  userId?: string;
  /** `false` while they are lost and may come back. */
  connected: boolean;
  quality: ConnectionQuality;
  /** Speaks now. */
  speaking: boolean;
  tracks: RemoteTrack[];
}

export class Roster {
  readonly #people = new Map<string, Participant>();
  #speakers: readonly ActiveSpeaker[] = [];

  /** Starts again with these. */
  reset(participants: readonly Participant[]): void {
    this.#people.clear();
    this.#speakers = [];
    for (const participant of participants) this.#people.set(participant.peer_id, participant);
  }

  /** Who is there. */
  get ids(): Iterable<string> {
    return this.#people.keys();
  }

  has(peerId: string): boolean {
    return this.#people.has(peerId);
  }

  /** Somebody came, or is as told from now on. */
  put(participant: Participant): void {
    this.#people.set(participant.peer_id, participant);
  }

  remove(peerId: string): Participant | undefined {
    const gone = this.#people.get(peerId);
    this.#people.delete(peerId);
    return gone;
  }

  putTrack(peerId: string, track: Track): void {
    this.#edit(peerId, (person) => ({
      ...person,
      tracks: [...person.tracks.filter((known) => known.track_id !== track.track_id), track],
    }));
  }

  removeTrack(peerId: string, trackId: string): void {
    this.#edit(peerId, (person) => ({
      ...person,
      tracks: person.tracks.filter((known) => known.track_id !== trackId),
    }));
  }

  setSpeakers(speakers: readonly ActiveSpeaker[]): void {
    this.#speakers = speakers;
  }

  setQuality(qualities: readonly PeerQuality[]): void {
    for (const { peer_id, quality } of qualities) this.#edit(peer_id, (person) => ({ ...person, quality }));
  }

  /** Who speaks, the loudest first. */
  get speakers(): readonly ActiveSpeaker[] {
    return this.#speakers;
  }

  /** How many tracks there are to receive. */
  trackCounts(): { audio: number; video: number } {
    const counts = { audio: 0, video: 0 };
    for (const { tracks } of this.#people.values()) for (const { kind } of tracks) counts[kind] += 1;
    return counts;
  }

  /** Everybody, in the order of their coming, with the slots that carry their tracks. */
  view(table: SlotTable, slotOf: (mid: string) => ReceivingSlot | undefined): RemoteParticipant[] {
    const speaking = new Set(this.#speakers.map((speaker) => speaker.peer_id));
    return [...this.#people.values()].map((person) => ({
      peerId: person.peer_id,
      name: person.name,
      metadata: person.metadata,
      userId: person.user_id,
      connected: person.connected,
      quality: person.quality,
      speaking: speaking.has(person.peer_id),
      tracks: person.tracks.map((track) => viewTrack(track, table, slotOf)),
    }));
  }

  #edit(peerId: string, change: (person: Participant) => Participant): void {
    const person = this.#people.get(peerId);
    if (person) this.#people.set(peerId, change(person));
  }
}

/** A paused track keeps its slot for the last picture, where that is its own. */
function viewTrack(
  track: Track,
  table: SlotTable,
  slotOf: (mid: string) => ReceivingSlot | undefined,
): RemoteTrack {
  const { track_id: trackId, kind, source, muted } = track;
  const view: RemoteTrack = { trackId, kind, source, muted };
  const content = table.carrying(trackId);
  if (!content) return view;
  if (content.reason) view.reason = content.reason;
  if (content.reason === 'bandwidth') view.paused = 'bandwidth';
  if (content.reason && !(view.paused && content.hadPicture)) return view;
  const slot = slotOf(content.mid);
  // A paused track's new picture does not come: whoever is to show the last one waits for nothing.
  const rtpTimestamp = view.paused ? undefined : table.awaited(content);
  if (slot) view.slot = { mid: content.mid, stream: slot.stream, rtpTimestamp };
  return view;
}
