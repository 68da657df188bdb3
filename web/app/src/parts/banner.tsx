/** What is wrong now and lasts. */

import { t } from '../i18n';
import { connection, soundBlocked, state } from '../session';
import { playSound } from './audio';

export function Banner() {
  if (state.value === 'reconnecting' || state.value === 'connecting') {
    return <Line kind="reconnecting" text={t(state.value === 'connecting' ? 'join.joining' : 'banner.reconnecting')} busy />;
  }
  if (connection.value === 'interrupted') return <Line kind="media" text={t('banner.media')} busy />;
  if (!soundBlocked.value) return null;
  return (
    <div class="banner" role="alert" data-testid="banner" data-kind="sound">
      <span>{t('banner.sound')}</span>
      <button type="button" class="button small" data-testid="hear-button" onClick={playSound}>
        {t('banner.hear')}
      </button>
    </div>
  );
}

function Line({ kind, text, busy }: { kind: string; text: string; busy: boolean }) {
  return (
    <div class="banner" role="alert" data-testid="banner" data-kind={kind}>
      {busy && <span class="spinner" aria-hidden="true" />}
      <span>{text}</span>
    </div>
  );
}
