/** What the page tells about the network and about being looked at; nothing of it outside a browser. */

export interface EnvironmentHandlers {
  /** The network is back, or the page is looked at again: a good moment to try at once. */
  wake(reason: 'online' | 'visible'): void;
  /** The page can no longer, or again, be seen. */
  visibility(hidden: boolean): void;
}

/** Listens until the returned function is called. */
export function watchEnvironment(handlers: EnvironmentHandlers): () => void {
  if (typeof globalThis.addEventListener !== 'function') return () => {};
  const page = globalThis.document as Document | undefined;
  const online = () => handlers.wake('online');
  const visibility = () => {
    handlers.visibility(page?.visibilityState === 'hidden');
    if (page?.visibilityState === 'visible') handlers.wake('visible');
  };
  globalThis.addEventListener('online', online);
  page?.addEventListener('visibilitychange', visibility);
  return () => {
    globalThis.removeEventListener('online', online);
    page?.removeEventListener('visibilitychange', visibility);
  };
}
