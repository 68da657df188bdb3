/** What both test pages have: the frame around them, fields, figures, the form that sends. */

import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect } from 'preact/hooks';
import type { Filters } from '@veche/sdk/realtime';
import { counts, lastAt } from './log';
import { chooseLanguage, language, size, span, t } from './texts';

export type State = { kind: 'off' | 'connecting' | 'on' } | { kind: 'waiting'; until: number } | { kind: 'refused'; reason: string };

export function Shell({ page, state, children }: { page: 'ws' | 'sse'; state: State; children: ComponentChildren }) {
  return (
    <div class="shell">
      <header class="bar">
        <a class="brand" href="/">Veche</a>
        <nav>
          <a href="/realtime/test" aria-current={page === 'ws' ? 'page' : undefined}>{t('page.ws')}</a>
          <a href="/realtime/sse-test" aria-current={page === 'sse' ? 'page' : undefined}>{t('page.sse')}</a>
        </nav>
        <span class="spacer" />
        <StateMark state={state} />
        <button type="button" class="text-button" lang={language.value === 'en' ? 'ru' : 'en'} onClick={() => chooseLanguage(language.value === 'en' ? 'ru' : 'en')}>
          {language.value === 'en' ? 'Русский' : 'English'}
        </button>
      </header>
      {children}
    </div>
  );
}

function StateMark({ state }: { state: State }) {
  const now = useNow(state.kind === 'waiting' ? 100 : undefined);
  let text: string;
  if (state.kind === 'waiting') {
    text = t('state.waiting', { seconds: (Math.max(0, state.until - now) / 1000).toFixed(1) });
  } else if (state.kind === 'refused') {
    text = t('state.refused', { reason: state.reason });
  } else {
    text = t(`state.${state.kind}`);
  }
  return <span class={`state ${state.kind}`} role="status" data-testid="state" data-state={state.kind}>{text}</span>;
}

export function Figures({ children }: { children?: ComponentChildren }) {
  const now = useNow(500);
  const { in: came, out, bytesIn, bytesOut } = counts.value;
  return (
    <dl class="figures">
      {children}
      <Figure name={t('figure.in')} value={`${came} · ${size(bytesIn)}`} />
      <Figure name={t('figure.out')} value={`${out} · ${size(bytesOut)}`} />
      <Figure name={t('figure.last')} value={lastAt.value === undefined ? t('figure.none') : span(Math.max(0, now - lastAt.value))} />
    </dl>
  );
}

export function Figure({ name, value, id }: { name: string; value: string | number | undefined | null; id?: string }) {
  const text = value === undefined || value === null || value === '' ? t('figure.none') : String(value);
  return (
    <div>
      <dt>{name}</dt>
      <dd data-testid={id} title={text}>{text}</dd>
    </div>
  );
}

export function Card({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="card">
      <h2>{title}</h2>
      {children}
    </section>
  );
}

interface FieldProps {
  label: string;
  id: string;
  value: string;
  onChange: (value: string) => void;
  digits?: boolean;
  placeholder?: string;
}

export function Field({ label, id, value, onChange, digits, placeholder }: FieldProps) {
  return (
    <label class="field">
      <span>{label}</span>
      <input
        data-testid={id}
        inputmode={digits ? 'numeric' : 'text'}
        value={value}
        placeholder={placeholder}
        spellcheck={false}
        autocomplete="off"
        onInput={(event) => onChange(event.currentTarget.value)}
      />
    </label>
  );
}

export function Check({ label, id, value, onChange }: { label: string; id: string; value: boolean; onChange: (value: boolean) => void }) {
  return (
    <label class="check">
      <input type="checkbox" data-testid={id} checked={value} onChange={(event) => onChange(event.currentTarget.checked)} />
      <span>{label}</span>
    </label>
  );
}

export interface FilterTexts {
  noBinary: boolean;
  maxSize: string;
  types: string;
  notifications: string;
}

export const NO_FILTERS: FilterTexts = { noBinary: false, maxSize: '', types: '', notifications: '' };

export function FilterFields({ value, onChange }: { value: FilterTexts; onChange: (value: FilterTexts) => void }) {
  const change = (part: Partial<FilterTexts>) => onChange({ ...value, ...part });
  return (
    <details>
      <summary>{t('channel.filters')}</summary>
      <div class="fields">
        <Check id="no-binary" label={t('channel.noBinary')} value={value.noBinary} onChange={(noBinary) => change({ noBinary })} />
        <Field id="max-size" digits label={t('channel.maxSize')} value={value.maxSize} onChange={(maxSize) => change({ maxSize })} />
        <Field id="types" label={t('channel.types')} placeholder="image/*, application/pdf" value={value.types} onChange={(types) => change({ types })} />
        <Field id="notification-types" label={t('channel.notifications')} placeholder="message, call, file" value={value.notifications} onChange={(notifications) => change({ notifications })} />
      </div>
    </details>
  );
}

/** The filters that were filled in. */
export function toFilters({ noBinary, maxSize, types, notifications }: FilterTexts): Filters | undefined {
  const filters: Filters = {};
  if (noBinary) filters.binary_data = false;
  if (Number(maxSize) > 0) filters.max_file_size = Number(maxSize);
  if (types.trim()) filters.allowed_types = list(types);
  if (notifications.trim()) filters.notification_types = list(notifications);
  return Object.keys(filters).length > 0 ? filters : undefined;
}

export function list(text: string): string[] {
  return text.split(',').map((one) => one.trim()).filter(Boolean);
}

/** JSON where it is some, else the text. */
export function toData(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** A JWT has two dots; anything else is an API key. */
export function credential(text: string): { token?: string; apiKey?: string } {
  const word = text.trim();
  if (!word) return {};
  return word.split('.').length === 3 ? { token: word } : { apiKey: word };
}

function useNow(every: number | undefined): number {
  const now = useSignal(Date.now());
  useEffect(() => {
    now.value = Date.now();
    if (every === undefined) return;
    const timer = setInterval(() => (now.value = Date.now()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now.value;
}
