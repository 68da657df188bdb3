/** Server-sent events that come back: browsers reconnect by themselves after a cut, but give up where the server refuses. */

import type { Reconnecting } from './socket';

/** The names of the events that the server sends. */
const EVENTS = [
  'connected', 'subscribed', 'unsubscribed', 'refused', 'disconnect',
  'message', 'notification', 'binary_data', 'file', 'presence', 'broadcast', 'direct', 'webrtc_signal',
];

export interface StreamOptions {
  reconnectInterval: number;
  reconnectDecay: number;
  maxReconnectInterval: number;
  maxReconnectAttempts?: number | null;
  jitter?: boolean;
  random?: () => number;
  openEventSource?: (url: string) => EventSource;
}

export interface StreamHandlers {
  /** The address, with the position to go on from. `refused`: the one before was, perhaps for the token in it. */
  url: (lastEventId: string, refused: boolean) => string | Promise<string>;
  event: (name: string, event: MessageEvent) => void;
  open: () => void;
  /** The stream is down; the browser, or we, open it again. */
  down: (about: Reconnecting | undefined) => void;
  end: () => void;
}

const CLOSED = 2;

export class EventStream {
  source: EventSource | undefined;
  lastEventId = '';
  readonly #options: StreamOptions;
  readonly #handlers: StreamHandlers;
  #attempts = 0;
  #refused = false;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  constructor(options: StreamOptions, handlers: StreamHandlers) {
    this.#options = options;
    this.#handlers = handlers;
    void this.#open();
  }

  close(): void {
    this.#over = true;
    clearTimeout(this.#retry);
    this.source?.close();
  }

  async #open(): Promise<void> {
    let url: string;
    try {
      url = await this.#handlers.url(this.lastEventId, this.#refused);
    } catch (error) {
      console.error(error);
      this.#again();
      return;
    }
    if (this.#over) return;
    const source = (this.#options.openEventSource ?? ((address) => new EventSource(address)))(url);
    this.source = source;
    source.onopen = () => {
      this.#attempts = 0;
      this.#refused = false;
      this.#handlers.open();
    };
    source.onerror = () => {
      if (this.#over) return;
      this.#refused = source.readyState === CLOSED;
      if (this.#refused) this.#again();
      else this.#handlers.down(undefined);
    };
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) this.lastEventId = event.lastEventId;
        if (!this.#over) this.#handlers.event(name, event);
      });
    }
  }

  #again(): void {
    if (this.#over) return;
    const { reconnectInterval, reconnectDecay, maxReconnectInterval, maxReconnectAttempts } = this.#options;
    if (maxReconnectAttempts != null && this.#attempts >= maxReconnectAttempts) {
      this.#over = true;
      this.#handlers.end();
      return;
    }
    const step = Math.min(reconnectInterval * reconnectDecay ** Math.min(this.#attempts, 200), maxReconnectInterval);
    const wait = (this.#options.jitter ?? true) ? step * (this.#options.random ?? Math.random)() : step;
    this.#attempts++;
    this.#handlers.down({ attempt: this.#attempts, wait });
    this.#retry = setTimeout(() => void this.#open(), wait);
  }
}
