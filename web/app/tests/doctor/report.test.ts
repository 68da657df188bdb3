import { describe, expect, it } from 'vitest';
import { browserName, type Check } from '../../src/doctor/checks';
import { jsonReport, textReport, type Report } from '../../src/doctor/report';
import { dictionaries, t } from '../../src/doctor/texts';

const check: Check = {
  id: 'udp',
  kind: 'path',
  title: { key: 'check.udp' },
  tried: { key: 'tried.udp' },
  state: 'failed',
  finding: {
    state: 'failed',
    back: { key: 'path.blocked.back', values: { addresses: '203.0.113.5:40000' } },
    means: { key: 'udp.blocked.means' },
    mend: { key: 'udp.blocked.mend', values: { addresses: '203.0.113.5:40000' } },
  },
  facts: { way: 'udp', connectMs: null },
};
const report: Report = {
  when: '2026-01-02T03:04:05.000Z',
  server: 'https://veche.example',
  browser: 'Firefox',
  verdict: { state: 'failed', line: { key: 'verdict.media' } },
  checks: [check],
};

describe('the report', () => {
  it('is readable', () => {
    const text = textReport(report, t);
    expect(text).toContain('Result: You would get into the room but hear and see nobody');
    expect(text).toContain('[failed] Straight to the server over UDP\n  What was tried: ');
    expect(text).toContain('\n  What came back: No answer from 203.0.113.5:40000.\n');
    expect(text).toContain('allow UDP to 203.0.113.5:40000 and to the ports beside it');
    expect(text).not.toMatch(/\{\w+\}/);
  });

  it('is the same for programs in every language', () => {
    const { state, result, checks } = JSON.parse(jsonReport(report));
    expect([state, result]).toEqual(['failed', 'verdict.media']);
    expect(checks).toEqual([
      { id: 'udp', state: 'failed', finding: 'path.blocked.back', means: 'udp.blocked.means', facts: { way: 'udp', connectMs: null } },
    ]);
  });
});

it('has the same holes in both languages', () => {
  const holes = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();
  for (const key of Object.keys(dictionaries.en) as (keyof typeof dictionaries.en)[]) {
    expect(holes(dictionaries.ru[key]), key).toEqual(holes(dictionaries.en[key]));
  }
});

it.each([
  ['Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', 'Firefox 140'],
  ['Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36', 'Chrome 141'],
  ['Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0', 'Edge 141'],
  ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Safari/605.1.15', 'Safari 18'],
  ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/141.0.1 Mobile/15E148 Safari/604.1', 'Chrome 141'],
  ['Something else', 'Something else'],
])('knows browsers by their names: %s', (agent, name) => expect(browserName(agent)).toBe(name));
