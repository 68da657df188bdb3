/** The call. */

import { useEffect, useState } from 'preact/hooks';
import { t, tn } from '../i18n';
import { mayRecord, moderates, recording, roomInfo, setRecording, waiting } from '../moderation';
import { panel, togglePanel } from '../panels';
import { AudioSlots } from '../parts/audio';
import { Banner } from '../parts/banner';
import { ChatPanel } from '../parts/chat';
import { Controls } from '../parts/controls';
import { Devices } from '../parts/devices';
import { Dialog } from '../parts/dialog';
import { Grid } from '../parts/grid';
import { Icon } from '../parts/icons';
import { LanguageChoice } from '../parts/language';
import { PeoplePanel } from '../parts/people';
import { SendOutDialog } from '../parts/person';
import { copyLink, peopleCount, roomName } from '../session';
import { listenToKeys, SHORTCUTS } from '../shortcuts';

export function CallPage() {
  const [open, setOpen] = useState<'settings' | 'help' | null>(null);
  useEffect(() => listenToKeys(() => setOpen('help')), []);
  const close = () => setOpen(null);
  const title = roomInfo.value?.name || roomName.value;
  return (
    <main class="call" data-testid="call">
      <header class="call-head">
        <h1 title={title}>{title}</h1>
        {roomInfo.value?.locked && (
          <span class="lock" role="img" aria-label={t('room.isLocked')} title={t('room.isLocked')} data-testid="lock-mark">
            <Icon name="lock" size={18} />
          </span>
        )}
        {recording.value && (
          <span class="recording" role="status" title={t('recording.hint')} data-testid="recording-mark">
            {t('recording.runs')}
          </span>
        )}
        <PeopleButton />
        <span class="spacer" />
        {mayRecord.value && <RecordButton />}
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
        {panel.value === 'chat' && <ChatPanel />}
        {panel.value === 'people' && <PeoplePanel />}
      </div>
      <Controls onSettings={() => setOpen('settings')} />
      <AudioSlots />
      <SendOutDialog />
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

/** Shows what the server says, not what was clicked. */
function RecordButton() {
  const runs = recording.value !== undefined;
  const text = t(runs ? 'recording.stop' : 'recording.start');
  return (
    <button type="button" class="button quiet small" data-testid="record-button" aria-pressed={runs} aria-label={text} title={text} onClick={() => setRecording(!runs)}>
      <Icon name={runs ? 'stop' : 'record'} size={18} />
      <span class="wide-only">{text}</span>
    </button>
  );
}

/** How many are here; how many wait, for those who can let them in. */
function PeopleButton() {
  const count = peopleCount.value;
  const knocking = moderates.value ? waiting.value.length : 0;
  const said = [tn('call.people', count), knocking > 0 ? tn('waiting.count', knocking) : ''];
  return (
    <button
      type="button"
      class="people-button"
      data-testid="people-button"
      aria-expanded={panel.value === 'people'}
      aria-keyshortcuts="U"
      aria-label={`${t('people.title')}: ${said.filter(Boolean).join(', ')}`}
      title={`${t('people.title')} (U)`}
      onClick={() => togglePanel('people')}
    >
      <Icon name="people" size={18} />
      <span data-testid="people-count" data-count={count}>
        {tn('call.people', count)}
      </span>
      {knocking > 0 && (
        <span class="count" data-testid="waiting-count">
          {knocking}
        </span>
      )}
    </button>
  );
}
