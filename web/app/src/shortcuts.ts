/** The keyboard in a call. */

import type { TextKey } from './i18n';
import { openPanel, panel, togglePanel } from './panels';
import { canShareScreen, page, pinned, room, toggleCamera, toggleMicrophone, togglePin, toggleScreen } from './session';
import { tiles } from './tiles';

export const SHORTCUTS: { keys: string; text: TextKey }[] = [
  { keys: 'M', text: 'help.mic' },
  { keys: 'V', text: 'help.camera' },
  { keys: 'S', text: 'help.screen' },
  { keys: 'P', text: 'help.pin' },
  { keys: 'C', text: 'help.chat' },
  { keys: 'U', text: 'help.people' },
  { keys: '?', text: 'help.help' },
  { keys: 'Esc', text: 'help.escape' },
];

/** Listens until the returned function is called. */
export function listenToKeys(onHelp: () => void): () => void {
  const handle = (event: KeyboardEvent) => {
    if (page.value !== 'call' || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.key === 'Escape') {
      // A dialog or a menu takes it for itself.
      if (panel.value && !document.querySelector('dialog[open], [role=menuitem]')) openPanel(null);
      return;
    }
    const target = event.target as HTMLElement;
    if (target.closest('input, textarea, select, [contenteditable], dialog, [role=menu]')) return;
    const action = actionFor(event, onHelp);
    if (!action) return;
    event.preventDefault();
    action();
  };
  addEventListener('keydown', handle);
  return () => removeEventListener('keydown', handle);
}

/** By the place of the key, so that it works in every keyboard layout; `?` by its character. */
function actionFor(event: KeyboardEvent, onHelp: () => void): (() => void) | undefined {
  if (event.key === '?' || (event.code === 'Slash' && event.shiftKey)) return onHelp;
  switch (event.code) {
    case 'KeyM':
      return toggleMicrophone;
    case 'KeyV':
      return toggleCamera;
    case 'KeyS':
      return canShareScreen ? toggleScreen : undefined;
    case 'KeyP':
      return pinFocusedOrSpeaking;
    case 'KeyC':
      return () => togglePanel('chat');
    case 'KeyU':
      return () => togglePanel('people');
    default:
      return undefined;
  }
}

function pinFocusedOrSpeaking(): void {
  const focused = document.activeElement?.closest<HTMLElement>('[data-testid=tile]')?.dataset.key;
  if (focused) {
    togglePin(focused);
    return;
  }
  if (pinned.value) {
    pinned.value = null;
    return;
  }
  const speakers = room.value?.speakers ?? [];
  const others = tiles.value.filter((tile) => !tile.isLocal);
  const loudest = speakers.flatMap((peerId) => others.filter((tile) => tile.peerId === peerId))[0] ?? others[0];
  if (loudest) togglePin(loudest.key);
}
