/** A look into the mirror, with the buttons for what others will see and hear. */

import { t } from '../i18n';
import { mediaProblems } from '../problems';
import { media, ownName, sources } from '../session';
import { hueOf, initials, streamOf } from '../tiles';
import { CameraButton, MicrophoneButton } from './controls';
import { Video } from './video';

export function Preview() {
  const { camera, microphone } = sources.value;
  const problems = mediaProblems(media);
  const pending = camera.pending || microphone.pending;
  const name = ownName.value.trim() || t('join.nameless');
  return (
    <section class="preview">
      <div class="preview-picture" style={{ '--hue': hueOf(name) }} data-testid="preview">
        <div class="avatar" aria-hidden="true">
          <span>{initials(name)}</span>
        </div>
        {camera.media && <Video stream={streamOf(camera.media)} mirrored label={t('tile.video', { name: t('tile.you') })} />}
        {!camera.media && <p class="preview-note">{t(pending ? 'join.allow' : 'join.cameraOff')}</p>}
        <div class="preview-controls">
          <MicrophoneButton />
          <CameraButton />
        </div>
      </div>
      {problems.map((text) => (
        <p key={text} class="notice" role="alert" data-testid="media-problem">
          {text}
        </p>
      ))}
      {problems.length > 0 && globalThis.isSecureContext && (
        <button type="button" class="button quiet small" data-testid="retry-devices" onClick={() => void media.openBoth()}>
          {t('join.retryDevices')}
        </button>
      )}
    </section>
  );
}
