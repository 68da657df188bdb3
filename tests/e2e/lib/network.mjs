// A network of its own for browsers, behind a firewall: two network namespaces, one for the browsers' machine and one for what
// stands between it and this machine, where the server is.
//
//     home (browsers) ── wall (address translation, nft) ── outside (this machine)

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from './until.mjs';

/** From networks that are kept for tests (RFC 2544), so that no machine has them already. */
const SUBNET = process.pid % 256;
const OUTSIDE = `198.18.${SUBNET}.1`;
const WALL_OUTSIDE = `198.18.${SUBNET}.2`;
const WALL_HOME = `198.19.${SUBNET}.1`;
const HOME = `198.19.${SUBNET}.2`;

const TUNNEL = fileURLToPath(new URL('./tunnel.mjs', import.meta.url));

export class Network {
  #home = `veche-home-${process.pid}`;
  #wall = `veche-wall-${process.pid}`;
  #folder;
  #ends = [];

  /** Where those in the network reach this machine, and by which name. */
  static address = OUTSIDE;
  static host = 'veche.test';

  /** Only root may make one. */
  static async make() {
    if (process.getuid() !== 0) throw new Error('network namespaces are made by root only: run these tests as root');
    const network = new Network();
    network.#folder = await mkdtemp(path.join(tmpdir(), 'veche-e2e-network-'));
    try {
      await network.#build();
    } catch (error) {
      await network.remove();
      throw error;
    }
    return network;
  }

  #file(name) {
    return path.join(this.#folder, name);
  }

  async #build() {
    const [home, wall] = [this.#home, this.#wall];
    const [up, down] = [`vu${process.pid}`, `vd${process.pid}`];
    await run('ip', ['-batch', '-'], [
      `netns add ${home}`,
      `netns add ${wall}`,
      `link add ${up} type veth peer name out netns ${wall}`,
      `address add ${OUTSIDE}/30 dev ${up}`,
      `link set ${up} up`,
      `link add ${down} netns ${wall} type veth peer name eth0 netns ${home}`,
    ]);
    await run('ip', ['-netns', wall, '-batch', '-'], [
      `address add ${WALL_OUTSIDE}/30 dev out`,
      `address add ${WALL_HOME}/30 dev ${down}`,
      'link set dev out up',
      `link set ${down} up`,
      `route add default via ${OUTSIDE}`,
    ]);
    await run('ip', ['-netns', home, '-batch', '-'], [
      `address add ${HOME}/30 dev eth0`,
      'link set lo up',
      'link set eth0 up',
      `route add default via ${WALL_HOME}`,
    ]);
    await writeFile(this.#file('hosts'), `127.0.0.1 localhost\n${OUTSIDE} ${Network.host}\n`);
    // Nobody answers there, and says so at once. A name server that is out of reach would be waited for.
    await writeFile(this.#file('resolv.conf'), 'nameserver 127.0.0.1\n');
    await run('ip', ['netns', 'exec', wall, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
    await this.firewall([]);
  }

  /** What the firewall does with what leaves the network: rules of nft, in place of those before. */
  async firewall(rules) {
    await run('ip', ['netns', 'exec', this.#wall, 'nft', '-f', '-'], [
      'flush ruleset',
      'table ip wall {',
      '  chain translation {',
      '    type nat hook postrouting priority srcnat',
      '    oifname "out" masquerade',
      '  }',
      '  chain leaving {',
      '    type filter hook forward priority filter',
      '    iifname "out" accept',
      ...rules,
      '  }',
      '}',
    ]);
  }

  /** How many packets the firewall's rules with `counter` have met. */
  async counted() {
    const listing = await run('ip', ['netns', 'exec', this.#wall, 'nft', 'list', 'chain', 'ip', 'wall', 'leaving']);
    return [...listing.matchAll(/counter packets (\d+)/g)].reduce((sum, [, packets]) => sum + Number(packets), 0);
  }

  /** A program that runs another one in the network, as itself does. */
  async program(executable) {
    const file = this.#file(path.basename(executable));
    // `ip netns exec` gives each program mounts of its own.
    const mounts = ['hosts', 'resolv.conf'].map((name) => `mount --bind ${this.#file(name)} /etc/${name}`);
    const inside = [...mounts, `exec ${executable} "$@"`].join(' && ');
    await writeFile(file, `#!/bin/sh\nexec ip netns exec ${this.#home} sh -c '${inside}' sh "$@"\n`);
    await chmod(file, 0o755);
    return file;
  }

  /** Makes a port on which something in the network listens for its own machine reachable under the same number from here. */
  async tunnel(port) {
    const socket = this.#file(`tunnel-${port}`);
    const inside = spawn('ip', ['netns', 'exec', this.#home, process.execPath, TUNNEL, socket, String(port)], {
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    this.#ends.push(async () => {
      const ended = once(inside, 'exit');
      inside.stdin.end();
      await ended;
    });
    const here = createServer((client) => {
      const far = connect(socket);
      client.on('error', () => far.destroy()).on('close', () => far.destroy());
      far.on('error', () => client.destroy()).on('close', () => client.destroy());
      client.pipe(far).pipe(client);
    }).listen(port, '127.0.0.1');
    await once(here, 'listening');
    this.#ends.push(async () => here.close());
    await until('the tunnel listens', () => isListening(socket));
  }

  async remove() {
    await Promise.allSettled(this.#ends.map((end) => end()));
    for (const name of [this.#home, this.#wall]) await run('ip', ['netns', 'delete', name]).catch(() => {});
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Runs a program with these lines as its input; gives what it says. Fails with what it complains of. */
function run(program, options, lines = []) {
  return new Promise((resolve, reject) => {
    const child = execFile(program, options, (error, output) => (error ? reject(error) : resolve(output)));
    child.stdin.on('error', () => {});
    child.stdin.end(lines.map((line) => `${line}\n`).join(''));
  });
}

async function isListening(socket) {
  const probe = connect(socket);
  await once(probe, 'connect');
  probe.destroy();
  return true;
}
