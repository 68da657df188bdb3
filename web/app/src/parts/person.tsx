/** What a moderator can do about somebody: the menu, and the question before somebody is sent out. */

import { useState } from 'preact/hooks';
import type { RemoteParticipant, TrackSource } from '@veche/sdk';
import { t } from '../i18n';
import { banPerson, hasDoor, muteTheir, removePerson, sendingOut } from '../moderation';
import { Dialog } from './dialog';
import type { IconName } from './icons';
import { Menu, type MenuItem } from './menu';

const SOURCES: [TrackSource & ('microphone' | 'camera' | 'screen'), IconName][] = [
  ['microphone', 'micOff'],
  ['camera', 'cameraOff'],
  ['screen', 'screen'],
];

export function PersonMenu({ person, look }: { person: RemoteParticipant; look: string }) {
  const label = t('person.menu', { name: person.name });
  return <Menu label={label} testid="person-menu" look={look} items={() => actions(person)} />;
}

function actions({ peerId, name, userId, tracks }: RemoteParticipant): MenuItem[] {
  const sends = (source: TrackSource) => tracks.some((track) => track.source === source && !track.muted);
  const mutes = SOURCES.filter(([source]) => sends(source)).map(([source, icon]) => ({
    testid: `mute-${source}`,
    icon,
    label: t(`person.mute.${source}`),
    run: () => muteTheir(peerId, source),
  }));
  const ask = (kind: 'remove' | 'ban') => () => (sendingOut.value = { kind, peerId, name, isUser: userId !== undefined });
  return [
    ...mutes,
    { testid: 'remove', icon: 'remove', label: t('person.remove'), run: ask('remove') },
    { testid: 'ban', icon: 'ban', label: t('person.ban'), danger: true, run: ask('ban') },
  ];
}

/** Asks once more, and for the reason, which is told to them. */
export function SendOutDialog() {
  const [reason, setReason] = useState('');
  const asked = sendingOut.value;
  if (!asked) return null;
  const { kind, peerId, name, isUser } = asked;
  const close = () => {
    sendingOut.value = null;
    setReason('');
  };
  const submit = (event: Event) => {
    event.preventDefault();
    if (kind === 'ban') void banPerson(peerId, name, reason.trim());
    else removePerson(peerId, reason.trim());
    close();
  };
  return (
    <Dialog title={t(`${kind}.title`, { name })} testid="send-out" onClose={close}>
      <form class="send-out" onSubmit={submit}>
        <p>{t(`${kind}.what`)}</p>
        {kind === 'ban' && !isUser && <p class="notice">{t(hasDoor.value ? 'ban.anonymous' : 'ban.open')}</p>}
        <label class="field">
          <span>{t('person.reason')}</span>
          <input
            data-testid="reason-input"
            value={reason}
            maxLength={200}
            autocomplete="off"
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        </label>
        <div class="row end">
          <button type="button" class="button quiet" data-testid="cancel-button" onClick={close}>
            {t('person.cancel')}
          </button>
          <button type="submit" class="button danger" data-testid="confirm-button">
            {t(`${kind}.button`)}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
