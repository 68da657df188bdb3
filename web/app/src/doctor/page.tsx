/** What people see: the result in one sentence, a card for each check, and the report. */

import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { Icon } from '../parts/icons';
import { LanguageSwitch } from '../parts/language';
import { checks, phase, report, run, verdict, type Check, type Visit } from './checks';
import { level, picture, still } from './devices';
import type { Line, State } from './findings';
import { jsonReport, textReport } from './report';
import { t } from './texts';

const say = ({ key, values }: Line) => t(key, values);

export function DoctorPage({ visit }: { visit: Visit }) {
  return (
    <div class="doctor">
      <header class="brand">
        <span class="logo">
          <Icon name="bell" size={24} />
        </span>
        <strong>Veche</strong>
        <span class="spacer" />
        <LanguageSwitch />
      </header>
      <main>
        <h1>{t('page.title')}</h1>
        <p class="lead">{t('page.lead')}</p>
        <Result />
        <Buttons visit={visit} />
        <p class="hint">{phase.value === 'idle' ? `${t('page.expect')} ${t('page.privacy')}` : t('page.privacy')}</p>
        <h2 class="unseen">{t('page.checks')}</h2>
        <ol class="checks">
          {checks.value.map((check) => (
            <Card key={check.id} check={check} />
          ))}
        </ol>
        <ReportPart />
      </main>
    </div>
  );
}

/** Readers of screens are told of every change here, and nowhere else. */
function Result() {
  const result = verdict.value;
  const running = checks.value.filter(({ state }) => state === 'running');
  let text = t('verdict.idle');
  if (result) text = say(result.line);
  else if (phase.value === 'running') text = t('verdict.running', { what: running.map(({ title }) => say(title)).join(', ') });
  const state: State = result?.state ?? (phase.value === 'running' ? 'running' : 'waiting');
  return (
    <p class={`result ${state}`} role="status" aria-live="polite" data-testid="verdict" data-state={state} data-key={result?.line.key}>
      <Mark state={state} />
      <span>{text}</span>
    </p>
  );
}

function Buttons({ visit }: { visit: Visit }) {
  const running = phase.value === 'running';
  const again = phase.value === 'done';
  return (
    <div class="row">
      <button type="button" class="button primary" data-testid="start" aria-disabled={running} onClick={() => void run(visit)}>
        {t(running ? 'page.running' : again ? 'page.again' : 'page.start')}
      </button>
      <a class="button quiet" href={callAddress(visit)}>{t('page.client')}</a>
    </div>
  );
}

/** The token goes where it is not sent with the page. */
function callAddress({ room, token }: Visit): string {
  const path = room ? `/r/${encodeURIComponent(room)}` : '/';
  return token ? `${path}#${new URLSearchParams({ token })}` : path;
}

function Card({ check }: { check: Check }) {
  const { id, kind, title, tried, state, finding } = check;
  const bad = state === 'warning' || state === 'failed';
  return (
    <li class={`check ${state}`} data-testid="check" data-id={id} data-state={state} data-key={finding?.back.key}>
      <details open={bad} key={String(bad)}>
        <summary>
          <Mark state={state} />
          <span class="name">{say(title)}</span>
          <span class="word">{t(`state.${state}`)}</span>
          {finding && state !== 'skipped' && <span class="brief">{say(finding.back)}</span>}
        </summary>
        <dl>
          <Part name="tried" text={say(tried)} />
          {finding && <Part name="back" text={say(finding.back)} />}
          {finding && <Part name="means" text={say(finding.means)} />}
          {finding?.mend && <Part name="mend" text={say(finding.mend)} />}
        </dl>
      </details>
      {kind === 'camera' && <Picture />}
      {kind === 'microphone' && state === 'running' && <Level />}
    </li>
  );
}

function Part({ name, text }: { name: 'tried' | 'back' | 'means' | 'mend'; text: string }) {
  return (
    <div class={name}>
      <dt>{t(`label.${name}`)}</dt>
      <dd>{text}</dd>
    </div>
  );
}

function Picture() {
  const element = useRef<HTMLVideoElement>(null);
  const stream = picture.value;
  useEffect(() => {
    if (!element.current) return;
    element.current.srcObject = stream ?? null;
    if (stream) element.current.play().catch(() => {});
  }, [stream]);
  if (stream) return <video class="seen" ref={element} autoplay playsinline muted aria-label={t('page.you')} />;
  return still.value ? <img class="seen" src={still.value} alt={t('page.you')} data-testid="still" /> : null;
}

function Level() {
  return <div class="level" style={{ '--level': level.value.toFixed(3) }} role="img" aria-label={t('page.level')} data-testid="level" />;
}

/** The state's sign; its word stands beside it. */
function Mark({ state }: { state: State }) {
  if (state === 'running') return <span class="mark running" aria-hidden="true"><span class="spinner" /></span>;
  return <span class={`mark ${state}`} aria-hidden="true">{{ waiting: '·', fine: '✓', warning: '!', failed: '×', skipped: '–' }[state]}</span>;
}

function ReportPart() {
  const copied = useSignal<'report.copied' | 'report.uncopied' | undefined>(undefined);
  const made = report.value;
  if (!made) return null;
  const text = textReport(made, t);
  const copy = async (what: string) => {
    copied.value = undefined;
    copied.value = (await toClipboard(what)) ? 'report.copied' : 'report.uncopied';
  };
  return (
    <section class="report" aria-labelledby="report-title">
      <h2 id="report-title">{t('report.title')}</h2>
      <p class="hint">{t('report.lead')}</p>
      <div class="row">
        <button type="button" class="button small" data-testid="copy-text" onClick={() => void copy(text)}>{t('report.copyText')}</button>
        <button type="button" class="button small quiet" data-testid="copy-json" onClick={() => void copy(jsonReport(made))}>{t('report.copyJson')}</button>
        <span class="copied" role="status">{copied.value && t(copied.value)}</span>
      </div>
      <pre tabIndex={0} aria-labelledby="report-title" data-testid="report">{text}</pre>
    </section>
  );
}

/** Pages that are not secure have no clipboard but the old one. */
async function toClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = Object.assign(document.createElement('textarea'), { value: text, className: 'unseen' });
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    return copied;
  }
}
