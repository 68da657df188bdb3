/** The result of all checks in one sentence. */

import type { PathFacts, ServerFacts, SocketFacts } from './facts';
import type { Finding, Line, State } from './findings';

/** A check that is over, as far as the result needs it. */
export interface Outcome {
  kind: 'browser' | 'camera' | 'microphone' | 'server' | 'signaling' | 'messaging' | 'relays' | 'path';
  finding: Finding;
  facts?: unknown;
}

export interface Verdict {
  state: Extract<State, 'fine' | 'warning' | 'failed'>;
  line: Line;
}

/** What keeps somebody out comes first, then what makes a call bad, then what others might miss. */
export function conclude(outcomes: readonly Outcome[]): Verdict {
  return keptOut(outcomes) ?? hindered(outcomes) ?? { state: 'fine', line: { key: 'verdict.fine' } };
}

function keptOut(outcomes: readonly Outcome[]): Verdict | undefined {
  const failed = (kind: Outcome['kind']) => outcomes.find((one) => one.kind === kind && one.finding.state === 'failed');
  if (failed('browser')) return { state: 'failed', line: { key: 'verdict.browser' } };
  const server = failed('server');
  const answered = (server?.facts as ServerFacts | undefined)?.status != null;
  if (server && !answered) return { state: 'failed', line: { key: 'verdict.server' } };
  const signaling = failed('signaling');
  if (signaling) {
    const refused = (signaling.facts as SocketFacts | undefined)?.error;
    // An answer to /health that is not the server's own explains why nothing else is; alone, it keeps nobody out.
    const cut = server ? 'verdict.sick' : 'verdict.sockets';
    return { state: 'failed', line: { key: refused ? 'verdict.refused' : cut } };
  }
  const paths = outcomes.filter(({ kind }) => kind === 'path');
  const tried = paths.filter(({ finding }) => finding.state !== 'skipped');
  if (tried.length === 0) return { state: 'warning', line: { key: 'verdict.waiting' } };
  if (!tried.some(carries)) return { state: 'failed', line: { key: 'verdict.media' } };
  return undefined;
}

function hindered(outcomes: readonly Outcome[]): Verdict | undefined {
  const warn = (line: Line): Verdict => ({ state: 'warning', line });
  const stateOf = (kind: Outcome['kind']) => outcomes.find((one) => one.kind === kind)?.finding.state;
  const [camera, microphone] = [stateOf('camera') === 'failed', stateOf('microphone') === 'failed'];
  if (camera && microphone) return warn({ key: 'verdict.devices' });
  if (microphone) return warn({ key: 'verdict.microphone' });
  if (stateOf('microphone') === 'warning') return warn({ key: 'verdict.unheard' });
  if (camera) return warn({ key: 'verdict.camera' });
  // In the order of how good they are; the browser takes the first that works.
  const working = outcomes.filter(({ kind }) => kind === 'path').filter(carries);
  const best = working[0];
  if (best && !isStraightUdp(best)) return warn({ key: 'verdict.detour' });
  if (best?.finding.state === 'warning') return warn({ key: isMeasured(best) ? 'verdict.weak' : 'verdict.unmeasured' });
  const spare = outcomes.filter(({ kind, finding }) => (kind === 'path' || kind === 'relays') && finding.state !== 'fine');
  if (spare.length > 0) return warn({ key: 'verdict.spare' });
  if (outcomes.some(({ finding }) => finding.state !== 'fine')) return warn({ key: 'verdict.small' });
  return undefined;
}

function carries({ facts }: Outcome): boolean {
  return (facts as PathFacts | undefined)?.connectMs != null;
}

function isStraightUdp({ facts }: Outcome): boolean {
  const path = facts as PathFacts | undefined;
  return path?.way === 'udp' && path.relay === undefined;
}

function isMeasured({ facts }: Outcome): boolean {
  return (facts as PathFacts | undefined)?.echoes?.rttMs != null;
}
