/** What the receiving sections carry, as the server says, and how many of them are worth having. */

import type { Slot } from './protocol';

/** How long after a switch a picture may still be the old one. */
const SWITCH_MS = 3_000;

/** What a slot carries. */
export interface SlotContent extends Slot {
  /** When that was told, by the table's clock. */
  since: number;
  /** A picture of this very track was there before, and may stay on show while there is no other. */
  hadPicture?: boolean;
}

export class SlotTable {
  readonly #contents = new Map<string, SlotContent>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Takes a `slots` message: what changed, or, after an answer, what a slot shows already. */
  apply(slots: readonly Slot[]): void {
    for (const slot of slots) {
      const before = this.#contents.get(slot.mid);
      const known = before?.track_id !== undefined && before.track_id === slot.track_id;
      if (known && before.reason === slot.reason) continue;
      const hadPicture = known && (before.reason === undefined || before.hadPicture === true);
      this.#contents.set(slot.mid, { ...slot, since: this.#now(), hadPicture });
    }
  }

  /** Forgets everything: another connection has other slots. */
  clear(): void {
    this.#contents.clear();
  }

  /** The slot that carries a track. */
  carrying(trackId: string): SlotContent | undefined {
    for (const content of this.#contents.values()) {
      if (content.track_id === trackId) return content;
    }
    return undefined;
  }

  /** The slot's content. */
  at(mid: string): SlotContent | undefined {
    return this.#contents.get(mid);
  }

  /** Nobody's tracks stay in a slot when the track or its owner is gone, even if the server's word is still to come. */
  drop(gone: { trackId?: string; peerId?: string }): void {
    for (const [mid, content] of this.#contents) {
      const hit = gone.trackId !== undefined ? content.track_id === gone.trackId : content.peer_id === gone.peerId;
      if (hit) this.#contents.set(mid, { mid, reason: 'gone', since: this.#now() });
    }
  }

  /** The RTP timestamp of the slot's first new picture, while an old one may still be on show. */
  awaited(content: SlotContent): number | undefined {
    return this.#now() - content.since < SWITCH_MS ? content.rtp_timestamp : undefined;
  }
}

/** Numbers of sections. */
export interface SlotCounts {
  audio: number;
  video: number;
}

const BATCH = 4;
/** Audio slots that are paired with a video slot. */
export const MOST_PAIRS = 8;
/** Audio slots beyond the pairs, for whoever else speaks. */
const SPEAKER_SLOTS = 3;
/** With the client's own sections and data it stays well below the 128 of Firefox and the 100 of the design. */
const MOST_VIDEO = 60;

/**
 * How many slots a room with so many remote tracks deserves, never fewer than there are: one spare, so that the next
 * who comes has a picture at once, in batches, so that not every newcomer costs a negotiation.
 */
export function planSlots(remote: SlotCounts, have: SlotCounts): SlotCounts {
  const batched = (tracks: number) => Math.max(BATCH, Math.ceil((tracks + 1) / BATCH) * BATCH);
  const video = Math.min(MOST_VIDEO, batched(remote.video));
  const speakers = remote.audio > BATCH ? SPEAKER_SLOTS : 0;
  const audio = Math.min(MOST_PAIRS, batched(remote.audio)) + speakers;
  return { audio: Math.max(have.audio, audio), video: Math.max(have.video, video) };
}
