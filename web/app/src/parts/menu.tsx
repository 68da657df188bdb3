/** A button that opens a list of things to do: the browser's own popover, so that nothing cuts it off and Esc closes it. */

import { useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { Icon, type IconName } from './icons';

export interface MenuItem {
  testid: string;
  label: string;
  icon: IconName;
  danger?: boolean;
  run: () => void;
}

interface Props {
  label: string;
  testid: string;
  /** The class of the button. */
  look: string;
  items: () => MenuItem[];
}

/** The least distance from the edges of the window. */
const MARGIN = 8;

export function Menu({ label, testid, look, items }: Props) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);
  useLayoutEffect(() => {
    if (!open || !button.current || !list.current) return;
    place(list.current, button.current);
    list.current.querySelector('button')?.focus();
  }, [open]);
  const choose = (item: MenuItem) => {
    list.current?.hidePopover();
    button.current?.focus();
    item.run();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        class={look}
        data-testid={testid}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label={label}
        title={label}
        popoverTarget={id}
      >
        <Icon name="more" size={18} />
      </button>
      <div
        ref={list}
        id={id}
        class="menu"
        role="menu"
        aria-label={label}
        popover="auto"
        onToggle={(event) => setOpen(event.newState === 'open')}
        onKeyDown={(event) => move(event, list.current)}
      >
        {open &&
          items().map((item) => (
            <button
              key={item.testid}
              type="button"
              role="menuitem"
              tabIndex={-1}
              class={item.danger ? 'danger' : ''}
              data-testid={item.testid}
              onClick={() => choose(item)}
            >
              <Icon name={item.icon} size={18} />
              {item.label}
            </button>
          ))}
      </div>
    </>
  );
}

/** Under the button, or above it where there is no room, and inside the window. */
function place(list: HTMLElement, button: HTMLElement): void {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = list;
  const below = at.bottom + 4;
  const top = below + height + MARGIN <= innerHeight ? below : Math.max(MARGIN, at.top - 4 - height);
  const left = Math.min(Math.max(MARGIN, at.right - width), innerWidth - width - MARGIN);
  list.style.top = `${top}px`;
  list.style.left = `${left}px`;
}

/** As in every menu: arrows go round, Home and End to the ends, Tab leaves. */
function move(event: KeyboardEvent, list: HTMLElement | null): void {
  const items = [...(list?.querySelectorAll('button') ?? [])];
  const now = items.indexOf(document.activeElement as HTMLButtonElement);
  const next = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: -1 }[event.key];
  if (next !== undefined) {
    event.preventDefault();
    items.at(next % items.length)?.focus();
  } else if (event.key === 'Tab') {
    list?.hidePopover();
  }
}
