/** `/realtime/test`: a WebSocket to try things out with. */

import { signal, useSignal } from '@preact/signals';
import { RealtimeClient, type History, type Presence, type RealtimeError, type RealtimeMessage, type Welcome } from '@veche/sdk/realtime';
import { render } from 'preact';
import { addEvent, addFrame } from './log';
import { Frames } from './frames';
import { Card, Check, Field, Figure, Figures, FilterFields, NO_FILTERS, Shell, credential, toFilters, type State } from './parts';
import { Send, type Ways } from './send';
import { followLanguage, span, t } from './texts';
import '../style/base.css';
import './style.css';

interface Channel {
  name: string;
  /** How many are there, where that is told. */
  here: number | undefined;
}

const PING_MS = 5_000;

const state = signal<State>({ kind: 'off' });
const welcome = signal<Welcome | undefined>(undefined);
const channels = signal<Channel[]>([]);
const ping = signal<number | undefined>(undefined);
const reconnects = signal(0);
const recoveries = signal(0);
let client: RealtimeClient | undefined;
let pings: ReturnType<typeof setInterval> | undefined;

function connect(address: string, token: string, binary: boolean): void {
  client?.close();
  const { protocol, host } = new URL(address, location.href);
  const one = new RealtimeClient(address, `${protocol.replace('ws', 'http')}//${host}/realtime/events`, { ...credential(token), binary });
  // This page shows everything in its list, and nothing beside it.
  one.handleMessage = () => {};
  client = one;
  state.value = { kind: 'connecting' };
  reconnects.value = recoveries.value = 0;
  one.on('frame', addFrame);
  one.on('open', (now) => {
    welcome.value = now;
    state.value = { kind: 'on' };
    if (now.reconnected) reconnects.value += 1;
    addEvent('open', t(now.reconnected ? 'event.reopen' : 'event.open'));
    void measure();
  });
  one.on('close', ({ code, reason }) => addEvent('close', t('event.close', { code, reason }), code !== 1000));
  one.on('reconnecting', ({ attempt, wait }) => {
    state.value = { kind: 'waiting', until: Date.now() + wait };
    addEvent('reconnecting', t('event.reconnecting', { attempt, ms: Math.round(wait) }));
  });
  one.on('recovered', ({ channel }) => {
    recoveries.value += 1;
    addEvent('recovered', t('event.recovered', { channel }));
  });
  one.on('lost', ({ channel }) => addEvent('lost', t('event.lost', { channel }), true));
  one.on('error', ({ message, channel }) => {
    if (channel) channels.value = channels.value.filter(({ name }) => name !== channel);
    addEvent('error', message, true);
  });
  one.on('end', (error: RealtimeError) => {
    clearInterval(pings);
    if (client !== one) return;
    channels.value = [];
    state.value = error.status === 1000 ? { kind: 'off' } : { kind: 'refused', reason: error.message };
  });
  one.on('presence', (message: RealtimeMessage) => countPresence(message as Presence));
  one.connectWebSocket();
  clearInterval(pings);
  pings = setInterval(() => void measure(), PING_MS);
}

async function measure(): Promise<void> {
  if (!client?.connected || document.visibilityState === 'hidden') return;
  ping.value = await client.ping().catch(() => undefined);
}

function disconnect(): void {
  client?.close();
  state.value = { kind: 'off' };
}

/** As if the network had broken: nobody says goodbye on purpose. */
function cut(): void {
  client?.ws?.close(4000);
}

function countPresence({ channel, joined = [], left = [] }: Presence): void {
  channels.value = channels.value.map((one) =>
    one.name === channel && one.here !== undefined ? { ...one, here: one.here + joined.length - left.length } : one,
  );
}

const ways: Ways = {
  message: async (channel, data, persistent) => (channel ? client?.publish(channel, data, { persistent }) : client?.broadcast(data)),
  notification: async (channel, title, body, kind) =>
    client?.notify(title, body, { ...(channel ? { channel } : {}), ...(kind ? { notification_type: kind } : {}) }),
  upload: async (file, channel, onProgress) => client?.upload(file, { channel: channel || null, onProgress }),
  inline: async (file, channel) => client?.sendBinary(file, channel ? { channel } : {}),
  raw: (text) => void client?.send(text),
};

function Connect() {
  const address = useSignal(`${location.protocol.replace('http', 'ws')}//${location.host}/realtime/ws`);
  const token = useSignal('');
  const binary = useSignal(false);
  const on = state.value.kind !== 'off' && state.value.kind !== 'refused';
  const submit = (event: Event) => {
    event.preventDefault();
    if (on) disconnect();
    else connect(address.value, token.value, binary.value);
  };
  return (
    <Card title={t('connect.title')}>
      <form class="fields" onSubmit={submit}>
        <Field id="address" label={t('connect.address')} value={address.value} onChange={(value) => (address.value = value)} />
        <Field id="token" label={t('connect.token')} value={token.value} onChange={(value) => (token.value = value)} />
        <Check id="binary" label={t('connect.binary')} value={binary.value} onChange={(value) => (binary.value = value)} />
        <div class="row">
          <button class={on ? 'button small quiet' : 'button small'} data-testid="connect">{t(on ? 'connect.undo' : 'connect.do')}</button>
          {state.value.kind === 'on' && (
            <button type="button" class="button small quiet" data-testid="cut" title={t('connect.cutHint')} onClick={cut}>{t('connect.cut')}</button>
          )}
        </div>
      </form>
    </Card>
  );
}

function Channels() {
  const name = useSignal('general');
  const filters = useSignal(NO_FILTERS);
  const presence = useSignal(true);
  const problem = useSignal('');
  const attempt = async (work: () => Promise<unknown> | undefined) => {
    problem.value = '';
    try {
      await work();
    } catch (error) {
      problem.value = (error as Error).message;
    }
  };
  const subscribe = async () => {
    const answer = await client?.subscribe(name.value, toFilters(filters.value), { presence: presence.value });
    if (!answer) return;
    const others = channels.value.filter((one) => one.name !== answer.channel);
    channels.value = [...others, { name: answer.channel, here: answer.presence?.length }];
  };
  const unsubscribe = async (channel: string) => {
    channels.value = channels.value.filter((one) => one.name !== channel);
    await client?.unsubscribe(channel);
  };
  const history = async (channel: string) => {
    const answer: History | undefined = await client?.history(channel, { limit: 50 });
    addEvent('history', `${channel}: ${answer?.messages.length ?? 0}`);
  };
  return (
    <Card title={t('channel.title')}>
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          void attempt(subscribe);
        }}
      >
        <Field id="channel" label={t('channel.name')} value={name.value} onChange={(value) => (name.value = value)} />
        <FilterFields value={filters.value} onChange={(value) => (filters.value = value)} />
        <Check id="presence" label={t('channel.presence')} value={presence.value} onChange={(value) => (presence.value = value)} />
        <div class="row">
          <button class="button small" data-testid="subscribe" disabled={state.value.kind !== 'on'}>{t('channel.subscribe')}</button>
          {problem.value && <span class="result bad" role="status">{problem.value}</span>}
        </div>
      </form>
      <ul class="channels" data-testid="channels">
        {channels.value.map((one) => (
          <li key={one.name}>
            <strong>{one.name}</strong>
            {one.here !== undefined && <small>{t('channel.here', { count: one.here })}</small>}
            <span class="spacer" />
            <button type="button" class="text-button" aria-label={t('channel.history', { channel: one.name })} onClick={() => void attempt(() => history(one.name))}>↺</button>
            <button type="button" class="text-button" aria-label={t('channel.unsubscribe', { channel: one.name })} onClick={() => void attempt(() => unsubscribe(one.name))}>×</button>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Page() {
  return (
    <Shell page="ws" state={state.value}>
      <Figures>
        <Figure id="connection" name={t('figure.id')} value={welcome.value?.connection_id} />
        <Figure name={t('figure.user')} value={welcome.value?.user_id ?? (welcome.value?.name as string | undefined)} />
        <Figure id="ping" name={t('figure.ping')} value={ping.value === undefined ? undefined : span(ping.value)} />
        <Figure id="reconnects" name={t('figure.reconnects')} value={reconnects.value} />
        <Figure id="recoveries" name={t('figure.recovered')} value={recoveries.value} />
      </Figures>
      <main>
        <div class="column">
          <Connect />
          <Channels />
          <Send ways={ways} enabled={state.value.kind === 'on'} />
        </div>
        <Frames />
      </main>
    </Shell>
  );
}

followLanguage();
render(<Page />, document.getElementById('app') as HTMLElement);
