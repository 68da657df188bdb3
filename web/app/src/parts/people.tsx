/** Everybody in the call; for moderators also who waits before it, who is banned, and the door. */

import { useEffect } from 'preact/hooks';
import type { RemoteParticipant } from '@veche/sdk';
import { t } from '../i18n';
import {
  admit, banned, deny, hasDoor, moderates, roomInfo, setLocked, setWaitingRoom, unbanPerson, waiting,
} from '../moderation';
import { ownName, participants, self, sources } from '../session';
import { hueOf, initials } from '../tiles';
import { Icon } from './icons';
import { Panel } from './panel';
import { PersonMenu } from './person';

export function PeoplePanel() {
  return (
    <Panel title={t('people.title')} testid="people-panel" opener="people-button">
      <div class="people-body">
        {moderates.value && <Waiting />}
        <section aria-label={t('people.inCall')}>
          {moderates.value && waiting.value.length > 0 && <h3>{t('people.inCall')}</h3>}
          <ul class="people-list" data-testid="people-list">
            <Self />
            {participants.value.map((person) => (
              <Other key={person.peerId} person={person} />
            ))}
          </ul>
        </section>
        {moderates.value && <BannedPeople />}
      </div>
      {moderates.value && hasDoor.value && <Door />}
    </Panel>
  );
}

function Waiting() {
  const list = waiting.value;
  useEffect(() => {
    // The button that had the focus goes with whom it was about: whoever uses the keyboard stays in the panel.
    if (document.activeElement === document.body) document.querySelector<HTMLElement>('[data-testid=people-panel]')?.focus();
  }, [list.length]);
  if (list.length === 0) return null;
  return (
    <section class="knocking" aria-label={t('waiting.list')} data-testid="waiting-list">
      <h3>{t('waiting.list')}</h3>
      <ul class="people-list">
        {list.map(({ peerId, name }) => (
          <li key={peerId} data-testid="waiting-person" data-name={name}>
            <Face name={name} />
            <span class="person-name" title={name}>
              {name}
            </span>
            <button type="button" class="button small" data-testid="admit-button" aria-label={t('waiting.admitName', { name })} onClick={() => admit(peerId)}>
              {t('waiting.admit')}
            </button>
            <button type="button" class="icon-button" data-testid="deny-button" aria-label={t('waiting.deny', { name })} title={t('waiting.deny', { name })} onClick={() => deny(peerId)}>
              <Icon name="close" size={18} />
            </button>
          </li>
        ))}
      </ul>
      {list.length > 1 && (
        <button type="button" class="button quiet small" data-testid="admit-all-button" onClick={() => list.forEach(({ peerId }) => admit(peerId))}>
          {t('waiting.admitAll')}
        </button>
      )}
    </section>
  );
}

function Self() {
  const name = self.value.name || ownName.value;
  const { microphone, camera } = sources.value;
  return (
    <li data-testid="person" data-name={name}>
      <Face name={name} />
      <span class="person-name" title={name}>
        {name} <small>({t('tile.you')})</small>
      </span>
      <Sending microphone={microphone.on} camera={camera.on} />
      {moderates.value && <span class="icon-button" aria-hidden="true" />}
    </li>
  );
}

function Other({ person }: { person: RemoteParticipant }) {
  const { name, tracks } = person;
  const sends = (source: string) => tracks.some((track) => track.source === source && !track.muted);
  return (
    <li data-testid="person" data-name={name}>
      <Face name={name} />
      <span class="person-name" title={name}>
        {name}
      </span>
      <Sending microphone={sends('microphone')} camera={sends('camera')} />
      {moderates.value && <PersonMenu person={person} look="icon-button" />}
    </li>
  );
}

function Face({ name }: { name: string }) {
  return (
    <span class="face" style={{ '--hue': hueOf(name) }} aria-hidden="true">
      {initials(name)}
    </span>
  );
}

function Sending({ microphone, camera }: { microphone: boolean; camera: boolean }) {
  const texts = [
    t(microphone ? 'people.mic.on' : 'people.mic.off'),
    t(camera ? 'people.camera.on' : 'people.camera.off'),
  ];
  return (
    <span class="sending" role="img" aria-label={texts.join(', ')} title={texts.join(', ')}>
      <span class={microphone ? '' : 'off'}>
        <Icon name={microphone ? 'mic' : 'micOff'} size={18} />
      </span>
      <span class={camera ? '' : 'off'}>
        <Icon name={camera ? 'camera' : 'cameraOff'} size={18} />
      </span>
    </span>
  );
}

function BannedPeople() {
  if (banned.value.length === 0) return null;
  return (
    <section aria-label={t('people.banned')} data-testid="banned-list">
      <h3>{t('people.banned')}</h3>
      <ul class="people-list">
        {banned.value.map((person) => (
          <li key={JSON.stringify(person.who)} data-testid="banned-person" data-name={person.name}>
            <span class="person-name" title={person.name}>
              {person.name}
            </span>
            <button type="button" class="button quiet small" data-testid="unban-button" aria-label={t('people.unbanName', { name: person.name })} onClick={() => void unbanPerson(person)}>
              {t('people.unban')}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Door() {
  return (
    <div class="door">
      <Switch testid="lock-switch" name="door.lock" on={roomInfo.value?.locked ?? false} onSwitch={setLocked} />
      <Switch testid="waiting-room-switch" name="door.waiting" on={roomInfo.value?.waiting_room ?? false} onSwitch={setWaitingRoom} />
    </div>
  );
}

interface SwitchProps {
  testid: string;
  name: 'door.lock' | 'door.waiting';
  on: boolean;
  onSwitch: (on: boolean) => void;
}

/** Shows what the server says, not what was clicked. */
function Switch({ testid, name, on, onSwitch }: SwitchProps) {
  return (
    <label class="switch">
      <span>
        {t(name)}
        <small id={`${testid}-hint`}>{t(`${name}Hint`)}</small>
      </span>
      <input
        type="checkbox"
        role="switch"
        data-testid={testid}
        checked={on}
        aria-describedby={`${testid}-hint`}
        onChange={(event) => {
          const wished = event.currentTarget.checked;
          event.currentTarget.checked = on;
          onSwitch(wished);
        }}
      />
    </label>
  );
}
