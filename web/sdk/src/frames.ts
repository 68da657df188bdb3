/** Tells when a video shows the first picture of what its slot carries now. */

/** The part of `HTMLVideoElement` that is used. */
export interface FrameSource {
  requestVideoFrameCallback?(callback: (now: number, metadata: { rtpTimestamp?: number }) => void): number;
  cancelVideoFrameCallback?(handle: number): void;
}

/** A new picture is shown in any case after this: better one wrong frame than none for ever. */
const LONGEST_MS = 1_500;
const SHORTEST_MS = 80;

/**
 * Calls `shown` once, with the first picture whose RTP timestamp is `rtpTimestamp` or later (with the first picture
 * at all when it is `undefined`). The returned function ends the wait.
 */
export function whenFrame(video: FrameSource, rtpTimestamp: number | undefined, shown: () => void): () => void {
  let handle: number | undefined;
  let over = false;
  const finish = () => {
    if (over) return;
    stop();
    shown();
  };
  const stop = () => {
    over = true;
    clearTimeout(timer);
    if (handle !== undefined) video.cancelVideoFrameCallback?.(handle);
  };
  const watch = () => {
    handle = video.requestVideoFrameCallback?.((_, { rtpTimestamp: seen }) => {
      if (over) return;
      if (rtpTimestamp === undefined || seen === undefined || isAtOrAfter(seen, rtpTimestamp)) finish();
      else watch();
    });
  };
  const known = video.requestVideoFrameCallback !== undefined;
  const timer = setTimeout(finish, known ? LONGEST_MS : SHORTEST_MS);
  if (known) watch();
  return stop;
}

/** In the wrapping order of 32-bit RTP timestamps. */
export function isAtOrAfter(timestamp: number, reference: number): boolean {
  return ((timestamp - reference) | 0) >= 0;
}
