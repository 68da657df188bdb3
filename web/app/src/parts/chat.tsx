/** Messages and files, in one conversation. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { FileTransfer } from '@veche/sdk';
import {
  acceptFile, cancelFile, declineFile, entries, files, sendFile, sendText, type Entry,
} from '../chat';
import { language, t, tn } from '../i18n';
import { may } from '../moderation';
import { Icon } from './icons';
import { Panel } from './panel';

export function ChatPanel() {
  const list = useRef<HTMLDivElement>(null);
  const count = entries.value.length;
  useEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [count]);
  return (
    <Panel title={t('chat.title')} testid="panel" opener="chat-button">
      {count === 0 && <p class="panel-empty">{t('chat.empty')}</p>}
      <div class="entries" role="log" aria-label={t('chat.title')} ref={list}>
        {entries.value.map((entry, index) => (
          <Line key={entry.id} entry={entry} follows={entries.value[index - 1]?.peerId === entry.peerId} />
        ))}
      </div>
      {may('publish_data') ? <Composer /> : <p class="panel-empty">{t('forbidden.chat')}</p>}
    </Panel>
  );
}

function Line({ entry, follows }: { entry: Entry; follows: boolean }) {
  const file = entry.fileId === undefined ? undefined : files.value.get(entry.fileId);
  const time = new Date(entry.at).toLocaleTimeString(language.value, { hour: '2-digit', minute: '2-digit' });
  return (
    <div class={`entry${entry.peerId === '' ? ' own' : ''}`} data-peer={entry.peerId}>
      {!follows && (
        <div class="entry-head">
          <strong>{entry.name}</strong>
          <time>{time}</time>
        </div>
      )}
      {entry.text !== undefined && (
        <p class="bubble" data-testid="chat-message">
          {entry.text}
        </p>
      )}
      {file && <File file={file} />}
    </div>
  );
}

function File({ file }: { file: FileTransfer }) {
  const share = file.size > 0 ? file.bytes / file.size : file.state === 'done' ? 1 : 0;
  return (
    <div class="bubble file" data-testid="file-item" data-name={file.name} data-state={file.state} data-direction={file.direction}>
      <div class="file-name">
        <Icon name="file" size={18} />
        <span>{file.name}</span>
      </div>
      <div class="file-status">{fileStatus(file)}</div>
      {file.state === 'active' && <progress max={1} value={share} aria-label={file.name} />}
      <FileActions file={file} />
    </div>
  );
}

function FileActions({ file }: { file: FileTransfer }) {
  const link = useObjectUrl(file.blob);
  if (link) {
    return (
      <a class="button small" href={link} download={file.name} data-testid="file-download">
        {t('file.save')}
      </a>
    );
  }
  if (file.state === 'offered' && file.direction === 'in') {
    return (
      <div class="row">
        <button type="button" class="button small" data-testid="file-accept" onClick={() => acceptFile(file.id)}>
          {t('file.accept')}
        </button>
        <button type="button" class="button small quiet" onClick={() => declineFile(file.id)}>
          {t('file.decline')}
        </button>
      </div>
    );
  }
  if (file.state !== 'offered' && file.state !== 'active') return null;
  return (
    <button type="button" class="button small quiet" data-testid="file-cancel" onClick={() => cancelFile(file.id)}>
      {t('file.cancel')}
    </button>
  );
}

function fileStatus(file: FileTransfer): string {
  const size = formatBytes(file.size);
  switch (file.state) {
    case 'offered':
      return file.direction === 'in' ? size : `${size}, ${t('file.waiting')}`;
    case 'active':
      return `${formatBytes(file.bytes)} / ${size}`;
    case 'done':
      return file.direction === 'in' ? size : `${size}, ${tn('file.sent', file.receivers.done)}`;
    default:
      return `${size}, ${t(`file.${file.state}`)}`;
  }
}

function formatBytes(bytes: number): string {
  const steps = ['byte', 'kilobyte', 'megabyte', 'gigabyte'] as const;
  const step = Math.min(steps.length - 1, bytes > 0 ? Math.floor(Math.log10(bytes) / 3) : 0);
  return new Intl.NumberFormat(language.value, {
    style: 'unit', unit: steps[step], unitDisplay: 'short', maximumFractionDigits: step > 1 ? 1 : 0,
  }).format(bytes / 1000 ** step);
}

function Composer() {
  const [text, setText] = useState('');
  const input = useRef<HTMLInputElement>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    const words = text.trim();
    if (words && (await sendText(words))) setText('');
  };
  return (
    <form class="composer" onSubmit={(event) => void submit(event)}>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        data-testid="file-input"
        onChange={(event) => {
          for (const file of event.currentTarget.files ?? []) void sendFile(file);
          event.currentTarget.value = '';
        }}
      />
      <button type="button" class="icon-button" aria-label={t('chat.attach')} title={t('chat.attach')} onClick={() => input.current?.click()}>
        <Icon name="attach" />
      </button>
      <input
        class="composer-text"
        data-testid="chat-input"
        value={text}
        maxLength={4000}
        autocomplete="off"
        placeholder={t('chat.placeholder')}
        aria-label={t('chat.placeholder')}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <button type="submit" class="icon-button accent" data-testid="chat-send" aria-label={t('chat.send')} title={t('chat.send')} disabled={text.trim() === ''}>
        <Icon name="send" />
      </button>
    </form>
  );
}

function useObjectUrl(blob: Blob | undefined): string | undefined {
  const [url, setUrl] = useState<string>();
  useEffect(() => {
    if (!blob) return;
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}
