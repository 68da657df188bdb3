/** What the page remembers: the name for next time, and a call to come back to after a reload. */

const NAME = 'veche.name';
const CALL = 'veche.call';

/** A call that a reload returns to. Lives as long as the tab. */
export interface StoredCall {
  room: string;
  name: string;
  token: string;
  microphone: boolean;
  camera: boolean;
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

/** Storage may be forbidden or full; the page works without. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
