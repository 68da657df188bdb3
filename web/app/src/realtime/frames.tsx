/** The list of frames. */

import { useSignal } from '@preact/signals';
import { saveBlob } from '@veche/sdk/realtime';
import { clear, entries, held, paused, pretty, togglePause, type Entry } from './log';
import { size, span, t } from './texts';

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 });

export function Frames() {
  const search = useSignal('');
  const shown = useSignal({ in: true, out: true });
  const wanted = entries.value.filter((entry) => {
    if (entry.direction !== 'event' && !shown.value[entry.direction]) return false;
    const words = `${entry.kind} ${entry.channel ?? ''} ${entry.summary}`.toLowerCase();
    return words.includes(search.value.toLowerCase());
  });
  const toggle = (direction: 'in' | 'out') => (shown.value = { ...shown.value, [direction]: !shown.value[direction] });
  return (
    <section class="card frames" aria-label={t('log.title')}>
      <header>
        <h2>{t('log.title')}</h2>
        <button type="button" class="chip in" aria-pressed={shown.value.in} onClick={() => toggle('in')}>↓ {t('log.in')}</button>
        <button type="button" class="chip out" aria-pressed={shown.value.out} onClick={() => toggle('out')}>↑ {t('log.out')}</button>
        <input
          type="search"
          class="search"
          placeholder={t('log.search')}
          aria-label={t('log.search')}
          value={search.value}
          onInput={(event) => (search.value = event.currentTarget.value)}
        />
        <button type="button" class="text-button" data-testid="pause" onClick={togglePause}>
          {paused.value ? t('log.resume') : t('log.pause')}
        </button>
        <button type="button" class="text-button" data-testid="clear" onClick={clear}>{t('log.clear')}</button>
      </header>
      {held.value > 0 && <p class="held">{t('log.waiting', { count: held.value })}</p>}
      {wanted.length === 0 && <p class="empty">{t('log.empty')}</p>}
      <ol data-testid="frames">
        {wanted.map((entry) => (
          <Row key={entry.id} entry={entry} />
        ))}
      </ol>
    </section>
  );
}

function Row({ entry }: { entry: Entry }) {
  const open = useSignal(false);
  const line = (
    <>
      <time dateTime={entry.at.toISOString()}>{clock.format(entry.at)}</time>
      <span class="since">{entry.since === undefined ? '' : `+${span(entry.since)}`}</span>
      <span class="arrow" aria-label={entry.direction}>{{ in: '↓', out: '↑', event: '•' }[entry.direction]}</span>
      <span class="kind">{entry.kind}</span>
      {entry.channel && <span class="channel">{entry.channel}</span>}
      <span class="summary">{entry.summary.slice(0, 300)}</span>
      <span class="size">{entry.size > 0 ? size(entry.size) : ''}</span>
    </>
  );
  const mark = `frame ${entry.direction}${entry.bad ? ' bad' : ''}`;
  if (entry.message === undefined) return <li class={mark} data-kind={entry.kind}><div class="line">{line}</div></li>;
  return (
    <li class={mark} data-kind={entry.kind}>
      <button type="button" class="line" aria-expanded={open.value} onClick={() => (open.value = !open.value)}>{line}</button>
      {open.value && <Details message={entry.message} />}
    </li>
  );
}

function Details({ message }: { message: unknown }) {
  const copy = () => void navigator.clipboard?.writeText(JSON.stringify(message));
  const binary = binaryOf(message);
  return (
    <div class="details">
      {binary?.content_type.startsWith('image/') && (
        <img src={`data:${binary.content_type};base64,${binary.binary_data}`} alt={binary.filename ?? ''} />
      )}
      <pre>{pretty(message)}</pre>
      <div class="row">
        <button type="button" class="text-button" onClick={copy}>{t('log.copy')}</button>
        {binary && <button type="button" class="text-button" onClick={() => save(binary)}>{t('log.save')}</button>}
      </div>
    </div>
  );
}

interface Binary {
  binary_data: string;
  content_type: string;
  filename?: string;
}

function binaryOf(message: unknown): Binary | undefined {
  const outer = message as { data?: unknown; binary_data?: unknown };
  const one = (typeof outer?.binary_data === 'string' ? outer : outer?.data) as Binary | undefined;
  return typeof one?.binary_data === 'string' && typeof one.content_type === 'string' ? one : undefined;
}

function save({ binary_data, content_type, filename }: Binary): void {
  const bytes = Uint8Array.from(atob(binary_data), (character) => character.charCodeAt(0));
  saveBlob(new Blob([bytes], { type: content_type }), filename || 'download');
}
