/** A person, or a screen. */

import { t } from '../i18n';
import { moderates } from '../moderation';
import { participants, togglePin, pinned } from '../session';
import { hueOf, initials, type Tile as TileData } from '../tiles';
import type { Rect } from '../layout';
import { Icon } from './icons';
import { PersonMenu } from './person';
import { Video } from './video';

export function Tile({ tile, rect }: { tile: TileData; rect: Rect }) {
  const isPinned = pinned.value === tile.key;
  const small = rect.width < 200;
  // Tiny tiles have no room for it; the list of people has it too.
  const person =
    moderates.value && tile.kind === 'camera' && rect.width >= 120
      ? participants.value.find((one) => one.peerId === tile.peerId)
      : undefined;
  const weak = tile.quality === 'poor' || tile.quality === 'lost';
  const style = {
    transform: `translate(${rect.left}px, ${rect.top}px)`,
    width: `${rect.width}px`,
    height: `${rect.height}px`,
    '--hue': hueOf(tile.name),
  };
  return (
    <article
      class={`tile ${tile.kind}${small ? ' small' : ''}`}
      style={style}
      data-testid="tile"
      data-key={tile.key}
      data-peer={tile.peerId}
      data-name={tile.name}
      data-kind={tile.kind}
      data-local={tile.isLocal}
      data-speaking={tile.speaking}
      data-muted={tile.muted}
      data-quality={tile.quality}
      data-connected={tile.connected}
      data-pinned={isPinned}
      data-paused={isPaused(tile)}
      aria-label={describe(tile)}
    >
      <Avatar tile={tile} size={Math.min(rect.width, rect.height)} />
      {tile.stream && (
        <Video
          stream={tile.stream}
          rtpTimestamp={tile.rtpTimestamp}
          mirrored={tile.mirrored}
          contain={tile.kind === 'screen'}
          label={t('tile.video', { name: tile.label })}
        />
      )}
      {!tile.connected && <p class="tile-note">{t('tile.back')}</p>}
      {tile.noCodec && <p class="tile-note">{t('tile.noCodec')}</p>}
      {isPaused(tile) && (
        <p class="tile-note low" title={t('tile.paused')} data-testid="paused-note">
          {t(rect.width < 260 || rect.height < 180 ? 'tile.pausedShort' : 'tile.paused')}
        </p>
      )}
      <div class="tile-label">
        {tile.kind === 'camera' && tile.muted && (
          <span class="badge muted" title={t('tile.muted')} data-testid="muted-badge">
            <Icon name="micOff" size={15} />
          </span>
        )}
        <span class="tile-name">{tile.label}</span>
        {tile.connected && weak && (
          <span class="badge weak" title={t(tile.quality === 'lost' ? 'tile.lost' : 'tile.weak')} data-testid="weak-badge">
            <Icon name="weak" size={15} />
          </span>
        )}
      </div>
      <button
        class="pin"
        type="button"
        data-testid="pin-button"
        aria-pressed={isPinned}
        aria-label={t(isPinned ? 'tile.unpin' : 'tile.pin', { name: tile.label })}
        onClick={() => togglePin(tile.key)}
      >
        <Icon name="pin" size={18} />
      </button>
      {person && <PersonMenu person={person} look="pin more" />}
    </article>
  );
}

function Avatar({ tile, size }: { tile: TileData; size: number }) {
  if (tile.kind === 'screen') {
    return (
      <div class="avatar screen-wait" aria-hidden="true">
        <Icon name="screen" size={Math.max(28, size * 0.2)} />
      </div>
    );
  }
  const diameter = Math.max(44, Math.min(132, size * 0.42));
  return (
    <div class="avatar" aria-hidden="true">
      <span style={{ width: `${diameter}px`, height: `${diameter}px`, fontSize: `${diameter * 0.38}px` }}>
        {initials(tile.name)}
      </span>
    </div>
  );
}

/** Who is coming back has no picture for that reason; one note is enough. */
function isPaused(tile: TileData): boolean {
  return tile.paused && tile.connected;
}

function describe(tile: TileData): string {
  const parts = [tile.label];
  if (tile.kind === 'camera' && tile.muted) parts.push(t('tile.muted'));
  if (!tile.connected) parts.push(t('tile.back'));
  else if (tile.quality === 'lost') parts.push(t('tile.lost'));
  else if (tile.quality === 'poor') parts.push(t('tile.weak'));
  if (isPaused(tile)) parts.push(t('tile.paused'));
  return parts.join(', ');
}
