/** A WebSocket that comes back: waits grow from `reconnectInterval` by `reconnectDecay`, and are spread. */

import { watchEnvironment } from '../environment';

/** The part of `WebSocket` that is used. */
export interface RawSocket {
  readonly readyState: number;
  binaryType?: string;
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  onerror: ((event: Event) => void) | null;
  send(data: string | ArrayBufferView<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

export interface WebSocketOptions {
  /** The first wait, in milliseconds. */
  reconnectInterval?: number;
  /** The longest wait, in milliseconds. */
  maxReconnectInterval?: number;
  /** By how much the waits grow. */
  reconnectDecay?: number;
  /** How many attempts in a row; `null`: it never gives up. */
  maxReconnectAttempts?: number | null;
  /** Waits are drawn between nothing and the step, so that clients do not come back in step; `false`: the step. */
  jitter?: boolean;
  /** Close codes after which coming back is of no use. */
  finalCodes?: readonly number[];
  protocols?: string | string[];
  /** Opens a WebSocket; the browser's own unless told otherwise. */
  openSocket?: (url: string, protocols?: string | string[]) => RawSocket;
  /** For the spread of waits: from 0 up to 1. */
  random?: () => number;
  /** `false`: `connect` is called later. */
  autoConnect?: boolean;
}

export interface Reconnecting {
  /** From 1. */
  attempt: number;
  /** How long until then, in milliseconds. */
  wait: number;
}

export interface WebSocketEvents {
  open: Event;
  message: MessageEvent;
  close: CloseEvent;
  error: Event;
  reconnecting: Reconnecting;
  /** It does not come back: all attempts failed, a final code, or `close` was called. */
  end: CloseEvent | undefined;
}

type Handlers = { [Name in keyof WebSocketEvents]: ((value: WebSocketEvents[Name]) => void)[] };

const OPEN = 1;

export class WebSocketClient {
  url: string;
  readonly options: Required<Pick<WebSocketOptions, 'reconnectInterval' | 'maxReconnectInterval' | 'reconnectDecay'>> &
    WebSocketOptions;
  /** Attempts since the connection last stood. */
  reconnectAttempts = 0;
  /** The newest WebSocket. */
  socket: RawSocket | undefined;
  readonly handlers: Handlers = { open: [], message: [], close: [], error: [], reconnecting: [], end: [] };
  #retry: ReturnType<typeof setTimeout> | undefined;
  #unwatch: (() => void) | undefined;
  #over = false;

  constructor(url: string, options: WebSocketOptions = {}) {
    this.url = url;
    this.options = {
      reconnectInterval: 1000,
      maxReconnectInterval: 30_000,
      reconnectDecay: 1.5,
      maxReconnectAttempts: null,
      ...options,
    };
    if (options.autoConnect ?? true) this.connect();
  }

  /** Whether messages can be sent now. */
  get isOpen(): boolean {
    return this.socket?.readyState === OPEN;
  }

  /** Opens the connection, at once. */
  connect(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#over = false;
    this.#unwatch ??= watchEnvironment({ wake: () => this.#wake(), visibility: () => {} });
    const open = this.options.openSocket ?? openBrowserSocket;
    this.#drop();
    const socket = open(this.url, this.options.protocols);
    this.socket = socket;
    socket.onopen = (event) => {
      this.reconnectAttempts = 0;
      this.#emit('open', event);
    };
    socket.onmessage = (event) => this.#emit('message', event);
    socket.onerror = (event) => this.#emit('error', event);
    socket.onclose = (event) => this.#closed(event);
  }

  /** Opens the connection again after the wait that is due. Called by itself when a connection is lost. */
  reconnect(): void {
    const { reconnectInterval, reconnectDecay, maxReconnectInterval, maxReconnectAttempts } = this.options;
    if (this.#retry !== undefined) return;
    if (maxReconnectAttempts != null && this.reconnectAttempts >= maxReconnectAttempts) {
      this.#end(undefined);
      return;
    }
    // Beyond some hundred attempts the power would overflow; the limit was reached long before.
    const power = reconnectDecay ** Math.min(this.reconnectAttempts, 200);
    const step = Math.min(reconnectInterval * power, maxReconnectInterval);
    const wait = (this.options.jitter ?? true) ? step * (this.options.random ?? Math.random)() : step;
    this.#emit('reconnecting', { attempt: this.reconnectAttempts + 1, wait });
    if (this.#over) return;
    this.#retry = setTimeout(() => {
      this.reconnectAttempts++;
      this.connect();
    }, wait);
  }

  /** Calls `handler` at every `event` from now on. */
  on<Name extends keyof WebSocketEvents>(event: Name, handler: (value: WebSocketEvents[Name]) => void): this {
    this.handlers[event]?.push(handler);
    return this;
  }

  off<Name extends keyof WebSocketEvents>(event: Name, handler: (value: WebSocketEvents[Name]) => void): this {
    const handlers = this.handlers[event];
    const index = handlers?.indexOf(handler) ?? -1;
    if (index >= 0) handlers.splice(index, 1);
    return this;
  }

  /** Sends text or bytes as they are, anything else as JSON. `false` when not connected, and then it is gone. */
  send(data: unknown): boolean {
    if (!this.isOpen) return false;
    const asIs = typeof data === 'string' || ArrayBuffer.isView(data);
    this.socket?.send(asIs ? (data as string) : JSON.stringify(data));
    return true;
  }

  /** Closes for good. */
  close(code?: number, reason?: string): void {
    this.options.maxReconnectAttempts = 0;
    const socket = this.socket;
    this.#end(undefined);
    socket?.close(code, reason);
  }

  /** Gives the connection up as lost, although nothing says so, and opens another. */
  abandon(reason: string, code = 1006): void {
    if (this.#over || this.socket === undefined || this.#retry !== undefined) return;
    this.#drop();
    this.#closed({ code, reason, wasClean: false } as CloseEvent);
  }

  #closed(event: CloseEvent): void {
    this.#emit('close', event);
    if (this.#over) return;
    if (this.options.finalCodes?.includes(event.code)) this.#end(event);
    else this.reconnect();
  }

  /** There is a reason to try at once. */
  #wake(): void {
    if (this.#retry !== undefined) this.connect();
  }

  #end(event: CloseEvent | undefined): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#unwatch?.();
    this.#unwatch = undefined;
    if (this.#over) return;
    this.#over = true;
    this.#emit('end', event);
  }

  /** Lets go of the old socket; a late word from it is not heard. */
  #drop(): void {
    const socket = this.socket;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
    if (socket.readyState <= OPEN) socket.close();
    this.socket = undefined;
  }

  #emit<Name extends keyof WebSocketEvents>(event: Name, value: WebSocketEvents[Name]): void {
    for (const handler of this.handlers[event].slice()) {
      try {
        handler(value);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

function openBrowserSocket(url: string, protocols?: string | string[]): RawSocket {
  const socket = new WebSocket(url, protocols);
  socket.binaryType = 'arraybuffer';
  return socket as unknown as RawSocket;
}
