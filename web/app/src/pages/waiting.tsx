/** Before a room whose moderators let people in one by one. */

import { useEffect } from 'preact/hooks';
import { t } from '../i18n';
import { Icon } from '../parts/icons';
import { LanguageSwitch } from '../parts/language';
import { Preview } from '../parts/preview';
import { leave, room, roomName, state } from '../session';
import { announce } from '../toasts';

export function WaitingPage() {
  useEffect(() => announce(t('waiting.title')), []);
  const title = room.value?.info?.name || roomName.value;
  return (
    <main class="join" data-testid="waiting">
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
        <section class="join-form">
          <span class="spinner large" aria-hidden="true" />
          <h1>{t('waiting.title')}</h1>
          <p class="lead">{t('waiting.lead', { room: title })}</p>
          {state.value !== 'waiting' && (
            <p class="notice" role="alert">
              {t('banner.reconnecting')}
            </p>
          )}
          <button type="button" class="button quiet" data-testid="stop-waiting-button" onClick={leave}>
            {t('waiting.stop')}
          </button>
        </section>
      </div>
    </main>
  );
}
