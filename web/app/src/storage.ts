/** What the page remembers: the name for next time, and a call to come back to after a reload. */

const NAME = 'veche.name';
const CALL = 'veche.call';
const PEER = 'veche.peer';

/** A call that a reload returns to. Lives as long as the tab. */
export interface StoredCall {
  room: string;
  name: string;
  token: string;
  microphone: boolean;
  camera: boolean;
  /** How long the server keeps the place after a loss, in seconds. */
  resumeSeconds: number;
  /** When the call was last known to go on, as `Date.now()` says it. */
  at: number;
}

/** Whether a person who comes back now means to be in the call at once: after a reload, not after a night. */
export function isFresh(call: StoredCall, now: number): boolean {
  const age = now - call.at;
  return age >= 0 && age < 2_000 * call.resumeSeconds;
}

export const storedName = {
  read: () => attempt(() => localStorage.getItem(NAME)) ?? '',
  write: (name: string) => attempt(() => localStorage.setItem(NAME, name)),
};

export const storedCall = {
  read(): StoredCall | undefined {
    const text = attempt(() => sessionStorage.getItem(CALL));
    return text ? attempt(() => JSON.parse(text) as StoredCall) : undefined;
  },
  write: (call: StoredCall) => attempt(() => sessionStorage.setItem(CALL, JSON.stringify(call))),
  clear: () => attempt(() => sessionStorage.removeItem(CALL)),
};

/** Our own name in messages in a room that we were sent out of. Lives as long as the tab. */
export const storedPeer = {
  read(room: string): string | undefined {
    const text = attempt(() => sessionStorage.getItem(PEER));
    const known = text ? attempt(() => JSON.parse(text) as { room: string; peerId: string }) : undefined;
    return known?.room === room ? known.peerId : undefined;
  },
  write: (room: string, peerId: string) => attempt(() => sessionStorage.setItem(PEER, JSON.stringify({ room, peerId }))),
};

/** Storage may be forbidden or full; the page works without. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
