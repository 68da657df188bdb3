/** The report: for people as text, for programs as JSON. It is made in the browser and stays there until somebody copies it. */

import type { Check } from './checks';
import type { Line } from './findings';
import type { TextKey, Values } from './texts';
import type { Verdict } from './verdict';

export interface Report {
  /** When it was finished, ISO 8601. */
  when: string;
  server: string;
  browser: string;
  verdict: Verdict;
  checks: readonly Check[];
}

type Translate = (key: TextKey, values?: Values) => string;

export function textReport({ when, server, browser, verdict, checks }: Report, t: Translate): string {
  const say = ({ key, values }: Line) => t(key, values);
  const head = [
    t('report.heading'),
    t('report.when', { when }),
    t('report.server', { server }),
    t('report.browser', { browser }),
    t('report.result', { result: say(verdict.line) }),
  ];
  const parts = checks.map(({ title, tried, state, finding }) => {
    const lines = [`[${t(`state.${state}`)}] ${say(title)}`, `${t('label.tried')}: ${say(tried)}`];
    if (finding) lines.push(`${t('label.back')}: ${say(finding.back)}`, `${t('label.means')}: ${say(finding.means)}`);
    if (finding?.mend) lines.push(`${t('label.mend')}: ${say(finding.mend)}`);
    return lines.join('\n  ');
  });
  return [head.join('\n'), ...parts].join('\n\n') + '\n';
}

/** Keys in place of texts, so that it is the same in every language; the facts as they were seen. */
export function jsonReport({ when, server, browser, verdict, checks }: Report): string {
  const told = checks.map(({ id, state, finding, facts }) => ({ id, state, finding: finding?.back.key, means: finding?.means.key, facts }));
  return JSON.stringify({ when, server, browser, state: verdict.state, result: verdict.line.key, checks: told }, null, 2);
}
