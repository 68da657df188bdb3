import { describe, expect, it } from 'vitest';
import type { Finding } from '../../src/doctor/findings';
import { conclude, type Outcome } from '../../src/doctor/verdict';

type State = Finding['state'];

const outcome = (kind: Outcome['kind'], state: State, facts?: unknown): Outcome => ({
  kind, facts, finding: { state, back: { key: 'skipped.back' }, means: { key: 'skipped.means' } },
});
const way = (name: string, state: State, relay?: string, rttMs: number | null = 20) =>
  outcome('path', state, { way: name, relay, connectMs: state === 'failed' ? null : 80, echoes: { rttMs } });

const WAYS = [way('udp', 'fine'), way('tcp', 'fine'), way('udp', 'fine', 'turn:x')];

/** All is well, but for what is said. */
function visit({ ways = WAYS, ...states }: Partial<Record<Outcome['kind'], State>> & { ways?: Outcome[] } = {}) {
  const kinds = ['browser', 'camera', 'microphone', 'server', 'signaling', 'messaging', 'relays'] as const;
  return conclude([...kinds.map((kind) => outcome(kind, states[kind] ?? 'fine')), ...ways]);
}

const told = (result: ReturnType<typeof conclude>) => [result.state, result.line.key];

describe('the result', () => {
  it('is one sentence, about the worst first', () => {
    expect(told(visit())).toEqual(['fine', 'verdict.fine']);
    expect(told(visit({ browser: 'failed', server: 'failed' }))).toEqual(['failed', 'verdict.browser']);
    expect(told(visit({ server: 'failed', signaling: 'skipped', camera: 'failed' }))).toEqual(['failed', 'verdict.server']);
    expect(told(visit({ signaling: 'failed', camera: 'failed' }))).toEqual(['failed', 'verdict.sockets']);
    expect(told(visit({ messaging: 'warning' }))).toEqual(['warning', 'verdict.small']);
    expect(told(visit({ relays: 'warning' }))).toEqual(['warning', 'verdict.spare']);
  });

  it('tells refusals from broken lines', () => {
    const refused = outcome('signaling', 'failed', { error: { code: 'forbidden', message: '' } });
    expect(told(conclude([refused]))).toEqual(['failed', 'verdict.refused']);
    expect(told(conclude([outcome('server', 'failed', { status: 502 }), refused]))).toEqual(['failed', 'verdict.refused']);
  });

  it('believes a call that works more than an odd answer to /health', () => {
    const sick = outcome('server', 'failed', { status: 429 });
    expect(told(conclude([sick, outcome('signaling', 'fine'), ...WAYS]))).toEqual(['warning', 'verdict.small']);
    expect(told(conclude([sick, outcome('signaling', 'failed', { error: null })]))).toEqual(['failed', 'verdict.sick']);
    expect(told(conclude([outcome('server', 'failed', { status: null }), outcome('signaling', 'skipped')]))).toEqual(['failed', 'verdict.server']);
  });

  it('names the devices that others will miss', () => {
    expect(told(visit({ camera: 'failed' }))).toEqual(['warning', 'verdict.camera']);
    expect(told(visit({ microphone: 'failed', camera: 'warning' }))).toEqual(['warning', 'verdict.microphone']);
    expect(told(visit({ microphone: 'failed', camera: 'failed' }))).toEqual(['warning', 'verdict.devices']);
    expect(told(visit({ microphone: 'warning' }))).toEqual(['warning', 'verdict.unheard']);
    expect(told(visit({ microphone: 'warning', camera: 'failed' }))).toEqual(['warning', 'verdict.unheard']);
    expect(told(visit({ camera: 'warning' }))).toEqual(['warning', 'verdict.small']);
  });

  it('depends on the best way that is open', () => {
    expect(told(visit({ ways: [way('udp', 'failed'), way('tcp', 'failed'), way('udp', 'failed', 'turn:x')] }))).toEqual(['failed', 'verdict.media']);
    expect(told(visit({ ways: [way('udp', 'failed'), way('tcp', 'fine')] }))).toEqual(['warning', 'verdict.detour']);
    expect(told(visit({ ways: [way('udp', 'failed'), way('tcp', 'failed'), way('udp', 'fine', 'turn:x')] }))).toEqual(['warning', 'verdict.detour']);
    expect(told(visit({ ways: [way('udp', 'warning'), way('tcp', 'fine')] }))).toEqual(['warning', 'verdict.weak']);
    expect(told(visit({ ways: [way('udp', 'warning', undefined, null), way('tcp', 'fine')] }))).toEqual(['warning', 'verdict.unmeasured']);
    expect(told(visit({ ways: [way('udp', 'fine'), way('tcp', 'failed')] }))).toEqual(['warning', 'verdict.spare']);
    expect(told(visit({ ways: [outcome('path', 'skipped'), outcome('path', 'skipped')] }))).toEqual(['warning', 'verdict.waiting']);
  });
});
