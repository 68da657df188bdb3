/** The call. */

import { useEffect, useState } from 'preact/hooks';
import { panelOpen } from '../chat';
import { t, tn } from '../i18n';
import { AudioSlots } from '../parts/audio';
import { Banner } from '../parts/banner';
import { Controls } from '../parts/controls';
import { Devices } from '../parts/devices';
import { Dialog } from '../parts/dialog';
import { Grid } from '../parts/grid';
import { Icon } from '../parts/icons';
import { LanguageChoice } from '../parts/language';
import { Panel } from '../parts/panel';
import { copyLink, peopleCount, room, roomName } from '../session';
import { listenToKeys, SHORTCUTS } from '../shortcuts';

export function CallPage() {
  const [open, setOpen] = useState<'settings' | 'help' | null>(null);
  useEffect(() => listenToKeys(() => setOpen('help')), []);
  const close = () => setOpen(null);
  const title = room.value?.info?.name || roomName.value;
  return (
    <main class="call" data-testid="call">
      <header class="call-head">
        <h1 title={title}>{title}</h1>
        <span class="people" data-testid="people-count" data-count={peopleCount.value}>
          {tn('call.people', peopleCount.value)}
        </span>
        <span class="spacer" />
        <button type="button" class="button quiet small" data-testid="copy-button" aria-label={t('control.copy')} onClick={() => void copyLink()}>
          <Icon name="link" size={18} />
          <span class="wide-only">{t('control.copy')}</span>
        </button>
        <button type="button" class="icon-button wide-only" data-testid="help-button" aria-label={t('control.help')} title={`${t('control.help')} (?)`} onClick={() => setOpen('help')}>
          <Icon name="help" />
        </button>
      </header>
      <Banner />
      <div class="call-body">
        <Grid />
        {panelOpen.value && <Panel />}
      </div>
      <Controls onSettings={() => setOpen('settings')} />
      <AudioSlots />
      {open === 'settings' && (
        <Dialog title={t('control.settings')} testid="settings" onClose={close}>
          <Devices />
          <LanguageChoice />
        </Dialog>
      )}
      {open === 'help' && (
        <Dialog title={t('help.title')} testid="help" onClose={close}>
          <dl class="shortcuts">
            {SHORTCUTS.map(({ keys, text }) => (
              <div key={keys}>
                <dt>
                  <kbd>{keys}</kbd>
                </dt>
                <dd>{t(text)}</dd>
              </div>
            ))}
          </dl>
        </Dialog>
      )}
    </main>
  );
}
