/** Tells the server what is looked at: how large each track is shown, who is pinned, and when nobody looks. */

import type { Subscribe, WantedSlot } from './protocol';

/** Sizes change in many small steps while a window is dragged. */
const SETTLE_MS = 200;
/** A glance at another tab does not stop the pictures. */
const HIDDEN_MS = 5_000;
/** Sizes are told in steps of this many pixels. */
const STEP = 32;
/** Wanted of a slot whose next picture has an unknown size: less than any layer has, so that it is the smallest. */
const SMALL: Size = { width: 160, height: 96 };

export interface Size {
  width: number;
  height: number;
}

/** A video slot and the track that it carries. */
export interface VideoSlot {
  mid: string;
  trackId: string | undefined;
}

export class View {
  readonly #send: (message: Subscribe) => boolean;
  readonly #slots: () => VideoSlot[];
  readonly #sizes = new Map<string, Size>();
  /**
   * The sizes that slots had when the page was hidden: likely those of what they will show again. Absent where the page
   * was not hidden, or has its pictures back.
   */
  #expected: Map<string, Size> | undefined;
  #pinned: string[] = [];
  #hidden = false;
  #said = '';
  #settle: ReturnType<typeof setTimeout> | undefined;
  #hide: ReturnType<typeof setTimeout> | undefined;

  constructor(send: (message: Subscribe) => boolean, slots: () => VideoSlot[]) {
    this.#send = send;
    this.#slots = slots;
  }

  /** The size a track is shown at, in device pixels; `null` when it is not shown any more. */
  setSize(trackId: string, size: Size | null): void {
    if (size) this.#sizes.set(trackId, { width: stepped(size.width), height: stepped(size.height) });
    else this.#sizes.delete(trackId);
    this.changed();
  }

  setPinned(peerIds: string[]): void {
    this.#pinned = peerIds;
    this.changed();
  }

  /** Nobody sees the page, so after a while no picture is wanted; sound goes on. Seen again, all is wanted at once. */
  setHidden(hidden: boolean): void {
    clearTimeout(this.#hide);
    if (hidden) {
      this.#hide = setTimeout(() => {
        this.#expected = this.#shown();
        this.#hidden = true;
        this.changed();
      }, HIDDEN_MS);
    } else if (this.#hidden) {
      this.#hidden = false;
      this.#say();
    }
  }

  /** Slots or what they carry changed. */
  changed(): void {
    this.#settle ??= setTimeout(() => {
      this.#settle = undefined;
      this.#say();
    }, SETTLE_MS);
  }

  /** The server has forgotten what it was told. */
  forgotten(): void {
    this.#said = '';
    this.changed();
  }

  close(): void {
    clearTimeout(this.#settle);
    clearTimeout(this.#hide);
  }

  /** What would be said now. */
  message(): Subscribe {
    const shown = this.#shown();
    const slots = this.#slots().flatMap(({ mid, trackId }): WantedSlot[] => {
      if (this.#hidden) return [{ mid, track_id: '' }];
      // Seen again, a slot without a size of before waits for one with the smallest picture: nobody shall send the
      // largest for a moment.
      const before = this.#expected && (this.#expected.get(mid) ?? SMALL);
      const size = trackId === undefined ? before : shown.get(mid);
      return size ? [{ mid, ...size }] : [];
    });
    return { mode: 'auto', pinned: this.#pinned, slots };
  }

  /** The sizes of what the slots carry. */
  #shown(): Map<string, Size> {
    const sizes = this.#slots().map(({ mid, trackId }) => [mid, this.#sizes.get(trackId ?? '')] as const);
    return new Map(sizes.flatMap(([mid, size]) => (size ? [[mid, size] as const] : [])));
  }

  #say(): void {
    const message = this.message();
    const text = JSON.stringify(message);
    if (text !== this.#said && this.#send(message)) this.#said = text;
    // Whatever fills an empty slot from now on is a newcomer.
    if (!this.#hidden && this.#slots().some(({ trackId }) => trackId !== undefined)) this.#expected = undefined;
  }
}

function stepped(pixels: number): number {
  return Math.min(65_535, Math.max(STEP, Math.ceil(pixels / STEP) * STEP));
}
