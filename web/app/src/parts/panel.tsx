/** The frame of what stands beside the pictures. */

import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { t } from '../i18n';
import { openPanel } from '../panels';
import { Icon } from './icons';

interface Props {
  title: string;
  testid: string;
  /** The button that opens it: the focus goes back there. */
  opener: string;
  children: ComponentChildren;
}

export function Panel({ title, testid, opener, children }: Props) {
  const panel = useRef<HTMLElement>(null);
  useEffect(() => takeFocus(panel.current, opener), []);
  return (
    <aside class="panel" ref={panel} tabIndex={-1} aria-label={title} data-testid={testid}>
      <header>
        <h2>{title}</h2>
        <button type="button" class="icon-button" aria-label={t('control.close')} onClick={() => openPanel(null)}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </aside>
  );
}

/** Into the panel, and back to where it was. Where there is no mouse, writing would open the keyboard over the panel. */
function takeFocus(panel: HTMLElement | null, opener: string): (() => void) | undefined {
  const before = document.activeElement;
  const input = panel?.querySelector<HTMLElement>('.composer-text');
  (input && matchMedia('(pointer: fine)').matches ? input : panel)?.focus();
  return () => {
    // The panel is gone already, and the focus with it, or it is about to go; elsewhere the focus stays.
    const now = document.activeElement;
    if (now && now !== document.body && !panel?.contains(now)) return;
    // Not every browser gives a clicked button the focus.
    const button = document.querySelector<HTMLElement>(`[data-testid=${opener}]`);
    (before instanceof HTMLElement && before.isConnected && before !== document.body ? before : button)?.focus();
  };
}
