/** The checks: their order, their state as the page shows it, and how they run. */

import { batch, computed, signal } from '@preact/signals';
import { listen, lookAtCamera, openDevices, still } from './devices';
import type { BrowserFacts, RelayListFacts, ServerFacts, SocketFacts } from './facts';
import {
  broken,
  judgeBrowser,
  judgeCamera,
  judgeMessaging,
  judgeMicrophone,
  judgePath,
  judgeRelays,
  judgeServer,
  judgeSignaling,
  skipped,
  type Finding,
  type Line,
  type State,
} from './findings';
import { tryPath, type Way } from './path';
import type { Report } from './report';
import { relaysOf, type Relay } from './servers';
import { conclude, type Outcome } from './verdict';
import { joinRoom, leaveRoom, tryMessaging, type Place } from './wire';

export interface Check {
  id: string;
  kind: Outcome['kind'];
  title: Line;
  tried: Line;
  state: State;
  finding?: Finding;
  facts?: unknown;
}

/** For whom to look: from the page's address. */
export interface Visit {
  origin: string;
  /** Empty: nobody said. */
  room: string;
  token: string | undefined;
}

const HEALTH_TRIES = 3;
const ANSWER_MS = 10_000;
/** A server may have many addresses; more than these are not tried. */
const MOST_RELAYS = 8;

export const phase = signal<'idle' | 'running' | 'done'>('idle');
export const checks = signal<readonly Check[]>([]);
/** When the last run ended. */
const endedAt = signal('');

export const verdict = computed(() => (phase.value === 'done' ? conclude(outcomes()) : undefined));

/** What is to be copied; nothing before the end. */
export const report = computed<Report | undefined>(() => {
  const result = verdict.value;
  if (!result) return undefined;
  return { when: endedAt.value, server: location.origin, browser: navigator.userAgent, verdict: result, checks: checks.value };
});

function outcomes(): Outcome[] {
  return checks.value.flatMap(({ kind, finding, facts }) => (finding ? [{ kind, finding, facts }] : []));
}

/** Shows what will be checked. */
export function lineUp({ origin }: Visit): void {
  const sockets = origin.replace(/^http/, 'ws');
  const plain = (kind: Exclude<Check['kind'], 'path'>, address = ''): Check => ({
    id: kind,
    kind,
    title: { key: `check.${kind}` },
    tried: { key: `tried.${kind}`, values: { address } },
    state: 'waiting',
  });
  checks.value = [
    plain('browser'),
    plain('camera'),
    plain('microphone'),
    plain('server', `${origin}/health`),
    plain('signaling', `${sockets}/realtime/webrtc/signaling`),
    plain('messaging', `${sockets}/realtime/ws`),
    ...(['udp', 'tcp'] as const).map((way) => pathCheck({ way })),
    plain('relays'),
  ];
}

/** Checks everything, one after the other: whatever is measured has the line for itself. */
export async function run(visit: Visit): Promise<void> {
  if (phase.value === 'running') return;
  batch(() => {
    phase.value = 'running';
    still.value = undefined;
    lineUp(visit);
  });
  const browser = await step('browser', lookAtBrowser, judgeBrowser);
  await checkDevices();
  const server = await step('server', () => askServer(visit), judgeServer);
  const place = server?.status ? await checkSockets(visit) : skipSockets();
  await checkPaths(browser?.webrtc ? place : undefined);
  batch(() => {
    endedAt.value = new Date().toISOString();
    phase.value = 'done';
  });
}

async function checkDevices(): Promise<void> {
  const devices = openDevices();
  await Promise.all([
    step('camera', async () => lookAtCamera((await devices).camera), judgeCamera),
    step('microphone', async () => listen((await devices).microphone), judgeMicrophone),
  ]);
}

/** Both WebSockets; gives a room to go on in, where there is one. */
async function checkSockets(visit: Visit): Promise<Place | undefined> {
  let place: Place | undefined;
  await step(
    'signaling',
    async () => {
      const entered = await enter(visit);
      place = entered.place;
      return entered.facts;
    },
    judgeSignaling,
  );
  await step('messaging', () => tryMessaging(visit.origin, visit.token), judgeMessaging);
  return place;
}

function skipSockets(): undefined {
  for (const id of ['signaling', 'messaging']) settle(id, skipped());
}

/**
 * Into a room of our own, where we disturb nobody and go on; and into the one that we were sent from, for it may be locked or
 * full, or the only one for which the token is. The facts are those of the room that matters.
 */
async function enter(visit: Visit): Promise<{ facts: SocketFacts; place?: Place }> {
  const own = await tryRoom({ ...visit, room: ownRoom() });
  // A connection that did not even open would not for another room.
  if (visit.room === '' || (!own.facts.opened && !own.facts.error)) return own;
  const named = await tryRoom(visit);
  return { facts: { ...named.facts, elsewhere: own.place !== undefined }, place: own.place ?? named.place };
}

/** Joins and leaves. There is a place where that worked. */
async function tryRoom(place: Place): Promise<{ facts: SocketFacts; place?: Place }> {
  const { facts, member } = await joinRoom(place);
  if (member) {
    leaveRoom(member);
    return { facts, place };
  }
  // Pages are not told why a handshake was refused. Asked otherwise, a server that refused it says so; a proxy does not.
  if (!facts.opened) facts.error = (await askRelays(place)).facts.error;
  return { facts };
}

async function checkPaths(place: Place | undefined): Promise<void> {
  for (const way of ['udp', 'tcp'] as const) await checkPath({ way }, place);
  let relays: Relay[] = [];
  const list = async () => {
    const { facts, found } = await askRelays(place as Place);
    relays = found.slice(0, facts.tried);
    return facts;
  };
  if (place) await step('relays', list, judgeRelays);
  else settle('relays', skipped());
  const ways = relays.map((relay): Way => ({ way: relay.transport, relay }));
  checks.value = [...checks.value, ...ways.map(pathCheck)];
  for (const way of ways) await checkPath(way, place);
}

async function checkPath(way: Way, place: Place | undefined): Promise<void> {
  const { id } = pathCheck(way);
  if (place) await step(id, () => tryPath(place, way), judgePath);
  else settle(id, skipped());
}

function pathCheck({ way, relay }: Way): Check {
  const common = { kind: 'path', state: 'waiting' } as const;
  if (relay) {
    const tried = { key: 'tried.relay', values: { relay: relay.url } } as const;
    return { ...common, id: relay.url, title: { key: `check.relay.${way}` }, tried };
  }
  return { ...common, id: way, title: { key: `check.${way}` }, tried: { key: `tried.${way}` } };
}

/** Runs one check and shows what became of it. A check that breaks is no reason not to go on. */
async function step<F>(id: string, look: () => Promise<F>, judge: (facts: F) => Finding): Promise<F | undefined> {
  change(id, { state: 'running' });
  try {
    const facts = await look();
    settle(id, judge(facts), facts);
    return facts;
  } catch (error) {
    settle(id, broken(error));
    return undefined;
  }
}

function settle(id: string, finding: Finding, facts?: unknown): void {
  change(id, { state: finding.state, finding, facts });
}

function change(id: string, changes: Partial<Check>): void {
  checks.value = checks.value.map((check) => (check.id === id ? { ...check, ...changes } : check));
}

async function lookAtBrowser(): Promise<BrowserFacts> {
  return { name: browserName(navigator.userAgent), secure: isSecureContext, webrtc: typeof RTCPeerConnection === 'function' };
}

/** The name that people know it by: browsers call themselves by many, the telling one first here. */
export function browserName(agent: string): string {
  const [, name, version] = /(Edg|OPR|YaBrowser|SamsungBrowser|Firefox|FxiOS|CriOS|Chrome)\w*\/(\d+)/.exec(order(agent)) ?? [];
  if (name === undefined) return /Version\/(\d+)[\d.]* .*Safari/.exec(agent)?.[1]?.replace(/^/, 'Safari ') ?? agent;
  return `${NAMES[name] ?? name} ${version}`;
}

const NAMES: Record<string, string> = {
  Edg: 'Edge',
  OPR: 'Opera',
  YaBrowser: 'Yandex Browser',
  SamsungBrowser: 'Samsung Internet',
  FxiOS: 'Firefox',
  CriOS: 'Chrome',
};

/** Everybody built on Chrome says so first, and what they are after it. */
function order(agent: string): string {
  return agent.split(' ').reverse().join(' ');
}

async function askServer({ origin }: Visit): Promise<ServerFacts> {
  const address = `${origin}/health`;
  const facts: ServerFacts = { address, status: null, healthy: false, ms: null };
  for (let count = 0; count < HEALTH_TRIES; count++) {
    const begun = performance.now();
    try {
      const answer = await fetch(address, { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS) });
      const body = (await answer.json().catch(() => null)) as { status?: unknown } | null;
      const ms = performance.now() - begun;
      facts.ms = Math.min(facts.ms ?? ms, ms);
      facts.status = answer.status;
      facts.healthy = body?.status === 'ok';
    } catch {
      break;
    }
  }
  return facts;
}

async function askRelays({ origin, room, token }: Place): Promise<{ facts: RelayListFacts; found: Relay[] }> {
  const headers: HeadersInit = token ? { authorization: `Bearer ${token}` } : {};
  const address = `${origin}/realtime/webrtc/ice-servers?${new URLSearchParams({ room_id: room })}`;
  try {
    const answer = await fetch(address, { headers, cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS) });
    const body = (await answer.json().catch(() => ({}))) as { ice_servers?: RTCIceServer[]; error?: RelayListFacts['error'] };
    const found = relaysOf(body.ice_servers ?? []);
    const tried = Math.min(found.length, MOST_RELAYS);
    return { facts: { status: answer.status, error: body.error ?? null, relays: found.map(({ url }) => url), tried }, found };
  } catch {
    return { facts: { status: null, error: null, relays: [], tried: 0 }, found: [] };
  }
}

/** A name that nobody else has, for a room that is gone when we leave. */
function ownRoom(): string {
  const random = crypto.getRandomValues(new Uint8Array(8));
  return `doctor-${[...random].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}
