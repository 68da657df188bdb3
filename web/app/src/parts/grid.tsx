/** All tiles, placed by the layout and told to the server in the size they are shown at. */

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { stage } from '../layout';
import { t } from '../i18n';
import { copyLink, room } from '../session';
import { staged, tiles, wantedPeers } from '../tiles';
import { Icon } from './icons';
import { Tile } from './tile';

export function Grid() {
  const area = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });

  useLayoutEffect(() => {
    const element = area.current;
    if (!element) return;
    const measure = () => setSize({ width: element.clientWidth, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    measure();
    return () => observer.disconnect();
  }, []);

  const large = staged.value;
  const all = tiles.value;
  const ordered = [...all.filter((tile) => large.includes(tile.key)), ...all.filter((tile) => !large.includes(tile.key))];
  const { tiles: rects, height } = stage(large.length, ordered.length, size.width, size.height);
  const placed = ordered.flatMap((tile, index) => {
    const rect = rects[index];
    return rect ? [{ tile, rect }] : [];
  });
  // One order in the document, whatever is large: a video that is moved in it would start anew.
  placed.sort((a, b) => all.indexOf(a.tile) - all.indexOf(b.tile));

  const shownSizes = placed
    .filter(({ tile }) => !tile.isLocal && tile.trackId !== undefined)
    .map(({ tile, rect }) => [tile.trackId, Math.round(rect.width), Math.round(rect.height)] as const);
  useShownSizes(shownSizes);

  const wanted = wantedPeers.value;
  useEffect(() => room.value?.pin(wanted), [wanted.join(' ')]);

  return (
    <div class="grid-area" ref={area}>
      <section class="grid" aria-label={t('call.grid')} style={{ height: `${height}px` }} data-testid="grid">
        {placed.map(({ tile, rect }) => (
          <Tile key={tile.key} tile={tile} rect={rect} />
        ))}
      </section>
      {all.every((tile) => tile.isLocal) && <Alone />}
    </div>
  );
}

function Alone() {
  return (
    <div class="alone" data-testid="alone">
      <strong>{t('call.alone')}</strong>
      <span>{t('call.invite')}</span>
      <button type="button" class="button quiet" data-testid="invite-button" onClick={() => void copyLink()}>
        <Icon name="link" size={18} />
        {t('control.copy')}
      </button>
    </div>
  );
}

/** Device pixels per pixel of the page: another when the page is zoomed or goes to another screen. */
function useScale(): number {
  const [scale, setScale] = useState(window.devicePixelRatio || 1);
  useEffect(() => {
    const query = matchMedia(`(resolution: ${scale}dppx)`);
    const measure = () => setScale(window.devicePixelRatio || 1);
    query.addEventListener('change', measure);
    return () => query.removeEventListener('change', measure);
  }, [scale]);
  return scale;
}

function useShownSizes(sizes: (readonly [string | undefined, number, number])[]): void {
  const told = useRef(new Set<string>());
  const scale = useScale();
  useEffect(() => {
    const now = new Set<string>();
    for (const [trackId, width, height] of sizes) {
      if (trackId === undefined) continue;
      now.add(trackId);
      room.value?.setShownSize(trackId, { width: width * scale, height: height * scale });
    }
    for (const trackId of told.current) if (!now.has(trackId)) room.value?.setShownSize(trackId, null);
    told.current = now;
  }, [JSON.stringify(sizes), scale]);
}
