/** Before the call: a name, a room, and a look into the mirror. */

import { useState } from 'preact/hooks';
import { t } from '../i18n';
import { cleanRoom, randomRoom } from '../options';
import { DoctorLink } from '../parts/doctor';
import { Devices } from '../parts/devices';
import { Icon } from '../parts/icons';
import { LanguageSwitch } from '../parts/language';
import { Preview } from '../parts/preview';
import { explainClose, mayBeTechnical } from '../problems';
import { ending, join, joining, ownName, roomName, sources } from '../session';

export function JoinPage() {
  const [suggested] = useState(randomRoom);
  const submit = (event: Event) => {
    event.preventDefault();
    roomName.value = cleanRoom(roomName.value) || suggested;
    void join();
  };
  return (
    <main class="join">
      <header class="brand">
        <span class="logo">
          <Icon name="bell" size={24} />
        </span>
        <strong>Veche</strong>
        <span class="spacer" />
        <LanguageSwitch />
      </header>
      <div class="join-body">
        <Preview />
        <section class="join-devices">
          <Devices />
        </section>
        <form class="join-form" onSubmit={submit}>
          <h1>{t('join.title')}</h1>
          <p class="lead">{t('join.lead')}</p>
          {ending.value && (
            <p class="notice error" role="alert" data-testid="join-error" data-code={ending.value.code}>
              {explainClose(ending.value)}
              {mayBeTechnical(ending.value) && <DoctorLink />}
            </p>
          )}
          <label class="field">
            <span>{t('join.name')}</span>
            <input
              data-testid="join-name"
              value={ownName.value}
              maxLength={64}
              autocomplete="nickname"
              placeholder={t('join.nameless')}
              onInput={(event) => (ownName.value = event.currentTarget.value)}
            />
          </label>
          <label class="field">
            <span>{t('join.room')}</span>
            <input
              data-testid="join-room"
              value={roomName.value}
              maxLength={64}
              autocomplete="off"
              autocapitalize="none"
              spellcheck={false}
              placeholder={suggested}
              aria-describedby="room-hint"
              onInput={(event) => (roomName.value = event.currentTarget.value)}
            />
            <small id="room-hint">{t('join.roomHint')}</small>
          </label>
          <button type="submit" class="button primary" data-testid="join-button" disabled={joining.value}>
            {joining.value && <span class="spinner" aria-hidden="true" />}
            {t(joining.value ? 'join.joining' : 'join.button')}
          </button>
          <Without />
        </form>
      </div>
    </main>
  );
}

function Without() {
  const { camera, microphone } = sources.value;
  if (camera.on || microphone.on || camera.pending || microphone.pending) return null;
  return (
    <p class="hint" data-testid="join-without">
      {t('join.without')}
    </p>
  );
}
