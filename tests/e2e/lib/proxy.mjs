// Bad networks between a browser and the server: one for media (UDP), one for pages and signaling (TCP).

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { createInterface } from 'node:readline';
import { binary } from './server.mjs';

/** `veche-udp-proxy` in front of the server's media port. */
export class UdpProxy {
  #process;
  #replies;

  /** `host`: where it listens and where it looks for the server; other options are the program's. */
  static async start(server, { host = '127.0.0.1', ...options } = {}) {
    const proxy = new UdpProxy();
    proxy.host = host;
    const settings = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const child = spawn(
      binary('veche-udp-proxy', 'VECHE_UDP_PROXY_BIN'),
      ['--listen', `${host}:0`, '--to', `${host}:${server.mediaPort}`, ...settings],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    proxy.#process = child;
    proxy.#replies = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const { value } = await proxy.#replies.next();
    proxy.port = Number(/^listening .*:(\d+)$/.exec(value ?? '')?.[1]);
    if (!proxy.port) throw new Error(`the UDP proxy did not start: ${value}`);
    return proxy;
  }

  async loss(up, down) {
    await this.#tell(`loss ${up} ${down}`);
  }

  /** Kilobits per second, each way or `up` or `down` only; 0: no limit. */
  async rate(kbps, direction = '') {
    await this.#tell(`${direction} rate ${kbps}`);
  }

  /** Any other command, such as `down queue 30` or `bursts 0.05 8`: see `proxy.rs`. */
  async set(command) {
    await this.#tell(command);
  }

  async blackout(on) {
    await this.#tell(`blackout ${on ? 'on' : 'off'}`);
  }

  async counters() {
    return JSON.parse(await this.#tell('counters'));
  }

  async stop() {
    if (this.#process.exitCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.stdin.end();
    await ended;
  }

  async #tell(line) {
    this.#process.stdin.write(`${line}\n`);
    const { value } = await this.#replies.next();
    if (!value || value.startsWith('error')) throw new Error(`the UDP proxy: ${value}`);
    return value;
  }
}

/** The machine's address in its network: Firefox does not talk to loopback addresses. */
export function ownAddress() {
  const all = Object.values(networkInterfaces()).flat();
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1';
}

/** A TCP proxy in front of the server's HTTP port, whose connections can be cut. */
export class TcpProxy {
  #listener;
  #sockets = new Set();
  #dark = false;

  static async start(server) {
    const proxy = new TcpProxy();
    proxy.#listener = createServer((client) => proxy.#carry(client, server.httpPort)).listen(0, '127.0.0.1');
    await once(proxy.#listener, 'listening');
    proxy.url = `http://127.0.0.1:${proxy.#listener.address().port}`;
    return proxy;
  }

  /** Cuts all connections; new ones work. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** While on, nothing is carried and nobody is told, as when a cable is pulled. */
  blackout(on) {
    this.#dark = on;
    if (on) for (const socket of this.#sockets) socket.pause();
    // What was under way is lost; TCP would notice by itself some time after the network is back.
    else this.cut();
  }

  async stop() {
    this.cut();
    this.#listener.close();
    await once(this.#listener, 'close');
  }

  #carry(client, port) {
    this.#watch(client);
    if (this.#dark) return;
    const server = connect(port, '127.0.0.1');
    this.#watch(server);
    client.pipe(server).pipe(client);
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
  }

  #watch(socket) {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }
}
