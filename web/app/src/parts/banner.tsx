/** What is wrong now and lasts. */

import { useEffect, useState } from 'preact/hooks';
import { t } from '../i18n';
import { connection, soundBlocked, state } from '../session';
import { playSound } from './audio';
import { DoctorLink } from './doctor';

/** Coming in usually takes a moment, of which nobody need be told. */
const SLOW_MS = 5_000;

export function Banner() {
  const slow = useSlow(state.value === 'connecting');
  if (slow) return <Line kind="reconnecting" text={t('join.joining')} busy />;
  if (state.value === 'reconnecting') return <Line kind="reconnecting" text={t('banner.reconnecting')} busy />;
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

/** Whether something has lasted for a while. */
function useSlow(lasts: boolean): boolean {
  const [slow, setSlow] = useState(false);
  useEffect(() => {
    setSlow(false);
    if (!lasts) return;
    const timer = setTimeout(() => setSlow(true), SLOW_MS);
    return () => clearTimeout(timer);
  }, [lasts]);
  return lasts && slow;
}

function Line({ kind, text, busy }: { kind: string; text: string; busy: boolean }) {
  return (
    <div class="banner" role="alert" data-testid="banner" data-kind={kind}>
      {busy && <span class="spinner" aria-hidden="true" />}
      <span>{text}</span>
      {kind === 'media' && <DoctorLink beside />}
    </div>
  );
}
