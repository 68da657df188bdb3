// The server under test: the built binary with a configuration and a data folder of its own.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { createSocket } from 'node:dgram';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { root } from './output.mjs';
import { until } from './until.mjs';

const MOST_LOG = 8 * 1024 * 1024;

export class Server {
  #process;
  #folder;
  #log = [];
  #logBytes = 0;

  /** Starts a server. `settings` are sections of the configuration: `{ signaling: { resume_seconds: 5 } }`. */
  static async start(settings = {}) {
    const server = new Server();
    server.#folder = await mkdtemp(path.join(tmpdir(), 'veche-e2e-'));
    server.httpPort = await freeTcpPort();
    server.mediaPort = await freeMediaPort();
    const sections = merge(
      {
        http: { listen: `127.0.0.1:${server.httpPort}`, https_listen: '', data_dir: path.join(server.#folder, 'data') },
        media: { first_port: server.mediaPort, workers: 1, loopback: true },
        log: { filter: process.env.E2E_LOG ?? 'info,dcsctp=warn,dimpl=warn', format: 'text' },
      },
      settings,
    );
    await writeFile(server.#configuration, toToml(sections));
    await server.up();
    return server;
  }

  get url() {
    return `http://127.0.0.1:${this.httpPort}`;
  }

  get pid() {
    return this.#process?.pid;
  }

  get log() {
    return this.#log.join('');
  }

  get #configuration() {
    return path.join(this.#folder, 'veche.toml');
  }

  /** Starts the process, again with the same data and ports if it ran before. */
  async up() {
    const child = spawn(binary('veche', 'VECHE_BIN'), ['--config', this.#configuration], {
      cwd: this.#folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => this.#note(text));
    child.on('exit', (code, signal) => this.#note(`-- the server ended: ${code ?? signal}\n`));
    await until('the server answers /health', async () => {
      if (child.exitCode !== null) throw new Error(`the server ended:\n${this.log}`);
      return (await fetch(`${this.url}/health`)).ok;
    });
  }

  /** Stops the process as an operator would, or by force. */
  async down(signal = 'SIGTERM') {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), 8_000);
    await ended;
    clearTimeout(late);
  }

  /** Ends it for good. */
  async stop() {
    await this.down();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async get(address) {
    const response = await fetch(this.url + address);
    return response.json();
  }

  async post(address, body, method = 'POST') {
    const response = await fetch(this.url + address, {
      method,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: await response.json().catch(() => undefined) };
  }

  /** What the server counts for the participants of a room, by their names. */
  async counters(room) {
    const { connections } = await this.get(`/realtime/webrtc/connections?room_id=${room}`);
    return Object.fromEntries(connections.map((one) => [one.name, one.media ?? {}]));
  }

  #note(text) {
    this.#log.push(text);
    this.#logBytes += text.length;
    while (this.#logBytes > MOST_LOG) this.#logBytes -= this.#log.shift().length;
  }
}

/** A program of the workspace: named by the environment, or the newest build there is. */
export function binary(name, variable) {
  const named = process.env[variable];
  if (named) return named;
  const folder = process.env.CARGO_TARGET_DIR ?? path.join(root, 'target');
  for (const profile of ['quick', 'release', 'debug']) {
    const file = path.join(folder, profile, name);
    if (existsSync(file)) return file;
  }
  throw new Error(`${name} is not built: cargo build --profile quick, or name it by ${variable}`);
}

function merge(base, more) {
  const merged = { ...base };
  for (const [name, section] of Object.entries(more)) merged[name] = { ...merged[name], ...section };
  return merged;
}

/** JSON's strings, numbers, booleans and lists of them are TOML's too. */
function toToml(sections) {
  const section = ([name, values]) => {
    const lines = Object.entries(values).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`);
    return `[${name}]\n${lines.join('')}`;
  };
  return Object.entries(sections).map(section).join('\n');
}

export async function freeTcpPort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/** A port that is free for UDP and for TCP: a stopped server shall find it again. */
export async function freeMediaPort() {
  for (;;) {
    const udp = createSocket('udp4').bind(0, '0.0.0.0');
    await once(udp, 'listening');
    const { port } = udp.address();
    const tcp = createServer().listen(port, '0.0.0.0');
    // Other connections of this machine may have the same port.
    const isFree = await once(tcp, 'listening').then(() => true, () => false);
    for (const probe of isFree ? [udp, tcp] : [udp]) {
      probe.close();
      await once(probe, 'close');
    }
    if (isFree) return port;
  }
}
