/** A server of the messaging side that tests speak for. */

import type { RawSocket } from '../../src/realtime/socket';

export class FakeRealtimeSocket implements RawSocket {
  static all: FakeRealtimeSocket[] = [];
  readonly url: string;
  /** JSON that was sent, parsed. */
  readonly sent: Record<string, unknown>[] = [];
  /** Everything that was sent. */
  readonly frames: unknown[] = [];
  readyState = 0;
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;

  constructor(url: string) {
    this.url = url;
    FakeRealtimeSocket.all.push(this);
  }

  static get last(): FakeRealtimeSocket {
    const socket = FakeRealtimeSocket.all.at(-1);
    if (!socket) throw new Error('no socket was opened');
    return socket;
  }

  send(data: string | ArrayBufferView<ArrayBuffer>): void {
    this.frames.push(data);
    if (typeof data !== 'string') return;
    try {
      this.sent.push(JSON.parse(data));
    } catch {
      // Plain text.
    }
  }

  close(): void {
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.({} as Event);
  }

  /** Opens, and welcomes the client. */
  welcome(about: object = {}): void {
    if (this.readyState === 0) this.open();
    this.say({ type: 'welcome', connection_id: `conn_${FakeRealtimeSocket.all.length}`, heartbeat_interval: 30, ...about });
  }

  say(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) } as MessageEvent);
  }

  /** Answers the newest request of this type. */
  answer(type: string, answer: object): void {
    const asked = this.of(type).at(-1);
    if (!asked) throw new Error(`nobody asked for ${type}`);
    this.say({ ...answer, id: asked.id });
  }

  drop(code = 1006, reason = ''): void {
    this.readyState = 3;
    this.onclose?.({ code, reason, wasClean: code !== 1006 } as CloseEvent);
  }

  of(type: string): Record<string, unknown>[] {
    return this.sent.filter((message) => message.type === type);
  }
}

/** A page's event source, whose events tests send. */
export class FakeEventSource {
  static all: FakeEventSource[] = [];
  readonly url: URL;
  readyState = 0;
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  readonly #listeners = new Map<string, (event: MessageEvent) => void>();

  constructor(url: string) {
    this.url = new URL(url);
    FakeEventSource.all.push(this);
  }

  static get last(): FakeEventSource {
    const source = FakeEventSource.all.at(-1);
    if (!source) throw new Error('no event source was opened');
    return source;
  }

  addEventListener(name: string, listener: (event: MessageEvent) => void): void {
    this.#listeners.set(name, listener);
  }

  close(): void {
    this.readyState = 2;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  say(name: string, data: object, lastEventId = ''): void {
    this.#listeners.get(name)?.({ data: JSON.stringify(data), lastEventId } as MessageEvent);
  }

  /** The server refuses: the browser gives up. */
  refuse(): void {
    this.readyState = 2;
    this.onerror?.();
  }
}
