/** The form that sends messages, notifications, files, and frames as they are. */

import { useSignal } from '@preact/signals';
import { addEvent } from './log';
import { Card, Check, Field, toData } from './parts';
import { t } from './texts';

/** How each is sent; a page without a WebSocket sends over HTTP. */
export interface Ways {
  message: (channel: string, data: unknown, persistent: boolean) => Promise<unknown>;
  notification: (channel: string, title: string, body: string, kind: string) => Promise<unknown>;
  upload: (file: File, channel: string, onProgress: (done: number, total: number) => void) => Promise<unknown>;
  inline?: (file: File, channel: string) => Promise<unknown>;
  raw?: (text: string) => void;
}

const KINDS = ['message', 'notification', 'file', 'raw'] as const;
type Kind = (typeof KINDS)[number];

export function Send({ ways, enabled }: { ways: Ways; enabled: boolean }) {
  const kind = useSignal<Kind>('message');
  const channel = useSignal('general');
  const text = useSignal('{"hello": "world"}');
  const keep = useSignal(false);
  const title = useSignal('Hello');
  const body = useSignal('world');
  const sort = useSignal('message');
  const file = useSignal<File | undefined>(undefined);
  const inline = useSignal(false);
  const raw = useSignal('{"type": "ping"}');
  const progress = useSignal<number | undefined>(undefined);
  const result = useSignal<{ text: string; bad: boolean } | undefined>(undefined);
  const busy = useSignal(false);

  const work = async (): Promise<unknown> => {
    if (kind.value === 'message') return ways.message(channel.value, toData(text.value), keep.value);
    if (kind.value === 'notification') return ways.notification(channel.value, title.value, body.value, sort.value);
    if (kind.value === 'raw') return ways.raw?.(raw.value);
    if (!file.value) return undefined;
    if (inline.value && ways.inline) return ways.inline(file.value, channel.value);
    progress.value = 0;
    return ways.upload(file.value, channel.value, (done, total) => (progress.value = total > 0 ? done / total : 1));
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    busy.value = true;
    result.value = undefined;
    const started = performance.now();
    try {
      await work();
      result.value = { text: t('send.done', { ms: Math.round(performance.now() - started) }), bad: false };
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      result.value = { text: code ? `${message} (${code})` : message, bad: true };
      addEvent('error', result.value.text, true);
    } finally {
      busy.value = false;
      progress.value = undefined;
    }
  };
  const kinds = KINDS.filter((one) => one !== 'raw' || ways.raw);
  return (
    <Card title={t('send.title')}>
      <div class="tabs" role="tablist">
        {kinds.map((one) => (
          <button key={one} type="button" role="tab" data-testid={`tab-${one}`} aria-selected={kind.value === one} onClick={() => (kind.value = one)}>
            {t(`send.${one}`)}
          </button>
        ))}
      </div>
      <form class="fields" onSubmit={submit}>
        {kind.value !== 'raw' && (
          <Field id="send-channel" label={t('send.to')} placeholder={t('send.everybody')} value={channel.value} onChange={(value) => (channel.value = value)} />
        )}
        {kind.value === 'message' && (
          <>
            <Area id="send-data" label={t('send.data')} value={text.value} onChange={(value) => (text.value = value)} />
            <Check id="send-keep" label={t('send.keep')} value={keep.value} onChange={(value) => (keep.value = value)} />
          </>
        )}
        {kind.value === 'notification' && (
          <>
            <Field id="send-title" label={t('send.heading')} value={title.value} onChange={(value) => (title.value = value)} />
            <Field id="send-body" label={t('send.body')} value={body.value} onChange={(value) => (body.value = value)} />
            <Field id="send-kind" label={t('send.kind')} value={sort.value} onChange={(value) => (sort.value = value)} />
          </>
        )}
        {kind.value === 'file' && (
          <>
            <label class="field">
              <span>{t('send.choose')}</span>
              <input type="file" data-testid="send-file" onChange={(event) => (file.value = event.currentTarget.files?.[0])} />
            </label>
            {ways.inline && (
              <label class="field">
                <span>{t('send.way')}</span>
                <select data-testid="send-way" value={inline.value ? 'inline' : 'upload'} onChange={(event) => (inline.value = event.currentTarget.value === 'inline')}>
                  <option value="upload">{t('send.upload')}</option>
                  <option value="inline">{t('send.inline')}</option>
                </select>
              </label>
            )}
          </>
        )}
        {kind.value === 'raw' && <Area id="send-raw" label={t('send.frame')} value={raw.value} onChange={(value) => (raw.value = value)} />}
        <div class="row">
          <button class="button small" data-testid="send" disabled={!enabled || busy.value || (kind.value === 'file' && !file.value)}>{t('send.do')}</button>
          {progress.value !== undefined && <progress value={progress.value} />}
          {result.value && <span class={result.value.bad ? 'result bad' : 'result'} role="status" data-testid="result">{result.value.text}</span>}
        </div>
      </form>
    </Card>
  );
}

function Area({ label, id, value, onChange }: { label: string; id: string; value: string; onChange: (value: string) => void }) {
  return (
    <label class="field">
      <span>{label}</span>
      <textarea data-testid={id} rows={4} spellcheck={false} value={value} onInput={(event) => onChange(event.currentTarget.value)} />
    </label>
  );
}

