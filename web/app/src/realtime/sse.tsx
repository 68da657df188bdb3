/** `/realtime/sse-test`: an event stream to try things out with; what is sent goes over HTTP. */

import { signal, useSignal } from '@preact/signals';
import { RealtimeClient } from '@veche/sdk/realtime';
import { render } from 'preact';
import { addEvent, addFrame } from './log';
import { Frames } from './frames';
import { Card, Field, Figure, Figures, FilterFields, NO_FILTERS, Shell, credential, list, toFilters, type FilterTexts, type State } from './parts';
import { Send, type Ways } from './send';
import { followLanguage, t } from './texts';
import '../style/base.css';
import './style.css';

const state = signal<State>({ kind: 'off' });
const connection = signal<string | undefined>(undefined);
const position = signal('');
const reconnects = signal(0);
let client = new RealtimeClient(`${location.protocol.replace('http', 'ws')}//${location.host}/realtime/ws`);

function connect(address: string, channels: string, token: string, filters: FilterTexts, lastEventId: string): void {
  client.close();
  const one = new RealtimeClient(address.replace(/^http/, 'ws'), address, credential(token));
  client = one;
  one.showNotification = () => {};
  one.handleBinaryData = () => {};
  state.value = { kind: 'connecting' };
  position.value = lastEventId;
  reconnects.value = 0;
  let opened = false;
  one.on('frame', (frame) => {
    addFrame(frame);
    if (frame.eventId) position.value = frame.eventId;
    const said = frame.message as { connection_id?: string } | null;
    if (frame.event === 'connected') connection.value = said?.connection_id;
  });
  one.on('sse_open', () => {
    state.value = { kind: 'on' };
    if (opened) reconnects.value += 1;
    addEvent('open', t(opened ? 'event.reopen' : 'event.open'));
    opened = true;
  });
  one.on('sse_down', (about) => {
    state.value = about ? { kind: 'waiting', until: Date.now() + about.wait } : { kind: 'connecting' };
    if (about) addEvent('reconnecting', t('event.reconnecting', { attempt: about.attempt, ms: Math.round(about.wait) }), true);
    else addEvent('close', t('event.close', { code: '', reason: '' }), true);
  });
  one.connectSSE(list(channels), toFilters(filters), lastEventId);
}

function disconnect(): void {
  client.closeSSE();
  state.value = { kind: 'off' };
}

const ways: Ways = {
  message: (channel, data, persistent) =>
    channel
      ? client.http.request('POST', '/realtime/send', { channel, data, persistent })
      : client.http.request('POST', '/realtime/broadcast', { data }),
  notification: (channel, title, body, kind) => {
    const about = { title, body, ...(kind ? { notification_type: kind } : {}) };
    return channel
      ? client.http.request('POST', '/realtime/notifications/channel', { ...about, channel })
      : client.http.request('POST', '/realtime/notifications/broadcast', about);
  },
  upload: (file, channel, onProgress) => client.upload(file, { channel: channel || null, onProgress }),
};

function Connect() {
  const address = useSignal(`${location.origin}/realtime/events`);
  const channels = useSignal('general');
  const token = useSignal('');
  const last = useSignal('');
  const filters = useSignal(NO_FILTERS);
  const on = state.value.kind !== 'off' && state.value.kind !== 'refused';
  const submit = (event: Event) => {
    event.preventDefault();
    if (on) disconnect();
    else connect(address.value, channels.value, token.value, filters.value, last.value.trim());
  };
  return (
    <Card title={t('connect.title')}>
      <form class="fields" onSubmit={submit}>
        <Field id="address" label={t('connect.address')} value={address.value} onChange={(value) => (address.value = value)} />
        <Field id="channels" label={t('channel.names')} value={channels.value} onChange={(value) => (channels.value = value)} />
        <FilterFields value={filters.value} onChange={(value) => (filters.value = value)} />
        <Field id="token" label={t('connect.token')} value={token.value} onChange={(value) => (token.value = value)} />
        <Field id="last" label={t('connect.last')} value={last.value} onChange={(value) => (last.value = value)} />
        <div class="row">
          <button class={on ? 'button small quiet' : 'button small'} data-testid="connect">{t(on ? 'connect.undo' : 'connect.do')}</button>
        </div>
      </form>
    </Card>
  );
}

function Page() {
  return (
    <Shell page="sse" state={state.value}>
      <Figures>
        <Figure id="connection" name={t('figure.id')} value={connection.value} />
        <Figure id="position" name={t('figure.position')} value={position.value} />
        <Figure id="reconnects" name={t('figure.reconnects')} value={reconnects.value} />
      </Figures>
      <main>
        <div class="column">
          <Connect />
          <Send ways={ways} enabled />
        </div>
        <Frames />
      </main>
    </Shell>
  );
}

followLanguage();
render(<Page />, document.getElementById('app') as HTMLElement);
