/** What the page tells about the network and about being looked at; nothing of it outside a browser. */

export interface EnvironmentHandlers {
  /** The network is back, or the page is looked at again: a good moment to try at once. */
  wake(reason: 'online' | 'visible'): void;
  /** Nothing of the page can be seen any longer, or something again; told at once where the page begins unseen. */
  visibility(hidden: boolean): void;
}

/** A video that has left the page for a small window of its own is seen while the page is not. */
const PICTURE_IN_PICTURE = ['enterpictureinpicture', 'leavepictureinpicture'];

/** Listens until the returned function is called. */
export function watchEnvironment(handlers: EnvironmentHandlers): () => void {
  if (typeof globalThis.addEventListener !== 'function') return () => {};
  const page = globalThis.document as Document | undefined;
  const online = () => handlers.wake('online');
  let hidden = false;
  const look = () => {
    const now = page?.visibilityState === 'hidden' && !page.pictureInPictureElement;
    if (now === hidden) return;
    hidden = now;
    handlers.visibility(hidden);
  };
  const visibility = () => {
    look();
    if (page?.visibilityState === 'visible') handlers.wake('visible');
  };
  look();
  globalThis.addEventListener('online', online);
  page?.addEventListener('visibilitychange', visibility);
  for (const event of PICTURE_IN_PICTURE) page?.addEventListener(event, look);
  return () => {
    globalThis.removeEventListener('online', online);
    page?.removeEventListener('visibilitychange', visibility);
    for (const event of PICTURE_IN_PICTURE) page?.removeEventListener(event, look);
  };
}
