/** The buttons of the call. */

import { unread } from '../chat';
import { t, type TextKey } from '../i18n';
import { forbidden } from '../moderation';
import { panel, togglePanel } from '../panels';
import { canShareScreen, leave, sources, toggleCamera, toggleMicrophone, toggleScreen } from '../session';
import { Icon, type IconName } from './icons';

export function Controls({ onSettings }: { onSettings: () => void }) {
  const { microphone, camera, screen } = sources.value;
  return (
    <div class="controls" role="toolbar" aria-label={t('control.toolbar')}>
      <MicrophoneButton />
      <CameraButton />
      {canShareScreen && (
        <Toggle
          testid="screen-button"
          icon="screen"
          label={screen.on ? 'control.screen.on' : 'control.screen.off'}
          shortcut="S"
          pressed={screen.on}
          tone={screen.on ? 'active' : 'plain'}
          busy={screen.pending}
          forbidden={forbidden('screen')}
          onClick={toggleScreen}
        />
      )}
      <Toggle
        testid="chat-button"
        icon="chat"
        label="control.chat"
        shortcut="C"
        pressed={panel.value === 'chat'}
        tone={panel.value === 'chat' ? 'active' : 'plain'}
        count={unread.value}
        onClick={() => togglePanel('chat')}
      />
      <Toggle testid="settings-button" icon="settings" label="control.settings" tone="plain" onClick={onSettings} />
      <Toggle testid="leave-button" icon="leave" label="control.leave" tone="danger" onClick={leave} />
      <span hidden data-testid="local-state" data-mic={microphone.on} data-camera={camera.on} data-screen={screen.on} />
    </div>
  );
}

export function MicrophoneButton() {
  const { on, pending } = sources.value.microphone;
  return (
    <Toggle
      testid="mic-button"
      icon={on ? 'mic' : 'micOff'}
      label={on ? 'control.mic.on' : 'control.mic.off'}
      shortcut="M"
      pressed={on}
      tone={on ? 'plain' : 'off'}
      busy={pending}
      forbidden={forbidden('microphone')}
      onClick={toggleMicrophone}
    />
  );
}

export function CameraButton() {
  const { on, pending } = sources.value.camera;
  return (
    <Toggle
      testid="camera-button"
      icon={on ? 'camera' : 'cameraOff'}
      label={on ? 'control.camera.on' : 'control.camera.off'}
      shortcut="V"
      pressed={on}
      tone={on ? 'plain' : 'off'}
      busy={pending}
      forbidden={forbidden('camera')}
      onClick={toggleCamera}
    />
  );
}

interface ToggleProps {
  testid: string;
  icon: IconName;
  label: TextKey;
  tone: 'plain' | 'active' | 'off' | 'danger';
  shortcut?: string;
  pressed?: boolean;
  busy?: boolean;
  /** Why it cannot be used. It stays reachable, so that everybody can learn why; a click says so. */
  forbidden?: TextKey;
  count?: number;
  onClick: () => void;
}

function Toggle({ testid, icon, label, tone, shortcut, pressed, busy, forbidden: why, count = 0, onClick }: ToggleProps) {
  const text = t(why ?? label);
  return (
    <button
      type="button"
      class={`control ${tone}`}
      data-testid={testid}
      data-on={pressed}
      aria-label={text}
      aria-keyshortcuts={shortcut}
      aria-busy={busy}
      aria-disabled={why !== undefined}
      title={shortcut && !why ? `${text} (${shortcut})` : text}
      onClick={onClick}
    >
      <Icon name={icon} />
      {count > 0 && <span class="count">{count}</span>}
    </button>
  );
}
