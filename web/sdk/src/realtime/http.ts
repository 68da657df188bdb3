/** Requests over HTTP: messages, uploads whole or in pieces that survive a broken connection (tus 1.0), downloads. */

import { RealtimeError, type FileInfo, type FileMessage, type Published } from './protocol';

/** Files from this size on are uploaded in pieces. */
const RESUMABLE_FROM = 8 * 1024 * 1024;
const PIECE = 4 * 1024 * 1024;
/** So many times in a row may a piece fail. */
const ATTEMPTS = 6;
const TUS = { 'Tus-Resumable': '1.0.0' };

export interface UploadOptions {
  channel?: string | null;
  /** Keep the announcement for those who subscribe later. */
  persistent?: boolean;
  /** Whether the bytes themselves are in the announcement; the server decides by size unless told. */
  inline?: boolean;
  filename?: string;
  /** In pieces: by size unless told. */
  resumable?: boolean;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

export interface Answer {
  status: number;
  headers: { get(name: string): string | null };
  text: string;
}

export class Http {
  readonly #base: string;
  readonly #headers: (refused: boolean) => Promise<Record<string, string>>;

  /** `base`: the server's address without a path. `headers`: credentials, other ones where the last were refused. */
  constructor(base: string, headers: (refused: boolean) => Promise<Record<string, string>>) {
    this.#base = base;
    this.#headers = headers;
  }

  /** The whole address of a path of this server. */
  url(path: string): string {
    const url = new URL(path, `${this.#base}/`);
    if (url.origin !== new URL(this.#base).origin) throw new RealtimeError('bad_url', `${path} is not an address of ${this.#base}`);
    return url.href;
  }

  /** Sends a request; gives the JSON of the answer, `undefined` for an empty one. */
  async request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const headers: Record<string, string> = { 'Content-Type': 'application/json' };
    if (method === 'POST') headers['Idempotency-Key'] = randomId();
    const answer = await this.#send(method, path, headers, body === undefined ? undefined : JSON.stringify(body));
    return (answer.text ? JSON.parse(answer.text) : undefined) as T;
  }

  /** Uploads a file and announces it in a channel, or without one to everybody. */
  async upload(file: Blob, options: UploadOptions): Promise<Published> {
    const filename = options.filename ?? (file as Partial<File>).name ?? 'file';
    if (options.resumable ?? file.size >= RESUMABLE_FROM) return this.#uploadInPieces(file, filename, options);
    const form = new FormData();
    if (options.channel) form.append('channel', options.channel);
    if (options.persistent) form.append('persistent', 'true');
    if (options.inline !== undefined) form.append('inline', String(options.inline));
    form.append('file', file, filename);
    const answer = await this.#send('POST', '/realtime/binary/upload', { 'Idempotency-Key': randomId() }, form, {
      ...options,
      // What is around the file counts too, but nobody wants to see more than there is.
      onProgress: options.onProgress && ((done) => options.onProgress?.(Math.min(done, file.size), file.size)),
    });
    return JSON.parse(answer.text) as Published;
  }

  /** Downloads a file that was announced, or by its id. */
  async download(file: string | FileInfo | FileMessage, signal?: AbortSignal): Promise<Blob> {
    const info = typeof file === 'string' ? undefined : 'file' in file ? (file as FileMessage).file : (file as FileInfo);
    const path = info?.url ?? `/realtime/files/${encodeURIComponent(file as string)}`;
    const response = await fetch(this.url(path), { headers: await this.#headers(false), signal: signal ?? null });
    if (!response.ok) throw problem(response.status, await response.text());
    return response.blob();
  }

  async #uploadInPieces(file: Blob, filename: string, options: UploadOptions): Promise<Published> {
    const about: Record<string, string> = { filename };
    if (file.type) about.content_type = file.type;
    if (options.channel) about.channel = options.channel;
    if (options.persistent) about.persistent = 'true';
    const metadata = Object.entries(about).map(([name, value]) => `${name} ${textToBase64(value)}`);
    const created = await this.#send('POST', '/realtime/files/uploads', {
      ...TUS,
      'Upload-Length': String(file.size),
      'Upload-Metadata': metadata.join(','),
      'Idempotency-Key': randomId(),
    });
    // Behind a proxy only the path of the place is sure to be ours.
    const place = new URL(created.headers.get('location') ?? '', this.url('/')).pathname;
    let [done, failures, isSure] = [0, 0, true];
    while (done < file.size || !isSure) {
      try {
        if (!isSure) {
          done = Number((await this.#send('HEAD', place, TUS)).headers.get('upload-offset'));
          isSure = true;
          continue;
        }
        const from = done;
        const piece = file.slice(from, from + PIECE);
        const headers = { ...TUS, 'Upload-Offset': String(from), 'Content-Type': 'application/offset+octet-stream' };
        const answer = await this.#send('PATCH', place, headers, piece, {
          ...options,
          onProgress: options.onProgress && ((sent) => options.onProgress?.(Math.min(from + sent, file.size), file.size)),
        });
        done = Number(answer.headers.get('upload-offset'));
        failures = 0;
      } catch (error) {
        if (options.signal?.aborted || ++failures >= ATTEMPTS || !mayPass(error)) throw error;
        await new Promise((resolve) => setTimeout(resolve, 500 * 1.5 ** failures * Math.random()));
        isSure = false;
      }
    }
    return { file_id: place.split('/').at(-1) };
  }

  async #send(
    method: string,
    path: string,
    headers: Record<string, string>,
    body?: string | Blob | FormData,
    options: Pick<UploadOptions, 'onProgress' | 'signal'> = {},
  ): Promise<Answer> {
    const url = this.url(path);
    const attempt = (shown: Record<string, string>): Promise<Answer> =>
      options.onProgress && typeof XMLHttpRequest === 'function'
        ? sendWatched(method, url, { ...shown, ...headers }, body, options)
        : send(method, url, { ...shown, ...headers }, body, options.signal);
    const shown = await this.#headers(false);
    let answer = await attempt(shown);
    if (answer.status === 401) {
      const others = await this.#headers(true);
      if (others.Authorization !== shown.Authorization) answer = await attempt(others);
    }
    if (answer.status >= 400) throw problem(answer.status, answer.text);
    return answer;
  }
}

async function send(
  method: string,
  url: string,
  headers: Record<string, string>,
  body: string | Blob | FormData | undefined,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  let response: Response;
  try {
    response = await fetch(url, { method, headers, body: body ?? null, signal: signal ?? null });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new RealtimeError('unreachable', `${url} cannot be reached: ${String(error)}`);
  }
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** `fetch` does not tell how much has left; this does. */
function sendWatched(
  method: string,
  url: string,
  headers: Record<string, string>,
  body: string | Blob | FormData | undefined,
  { onProgress, signal }: Pick<UploadOptions, 'onProgress' | 'signal'>,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress?.(event.loaded, event.total);
    request.onload = () => {
      const get = (name: string) => request.getResponseHeader(name);
      resolve({ status: request.status, headers: { get }, text: request.responseText });
    };
    request.onerror = () => reject(new RealtimeError('unreachable', `${url} cannot be reached`));
    request.onabort = () => reject(signal?.reason ?? new RealtimeError('aborted', 'the request was aborted'));
    request.onloadend = () => signal?.removeEventListener('abort', abort);
    signal?.addEventListener('abort', abort);
    if (signal?.aborted) abort();
    else request.send(body ?? null);
  });
}

function problem(status: number, text: string): RealtimeError {
  try {
    const { code, message } = JSON.parse(text).error;
    return new RealtimeError(String(code), String(message), status);
  } catch {
    return new RealtimeError(`http_${status}`, text.slice(0, 200) || `the server answered ${status}`, status);
  }
}

function mayPass(error: unknown): boolean {
  if (!(error instanceof RealtimeError)) return false;
  // 409: an offset that the server does not have, put right by asking; 423: a piece that it has not finished with.
  return error.code === 'unreachable' || [408, 409, 423, 429, 502, 503, 504].includes(error.status ?? 0);
}

function textToBase64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

/** 128 random bits in hexadecimal digits; `randomUUID` is only there in secure contexts. */
export function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
