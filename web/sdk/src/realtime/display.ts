/** What a page does with messages unless it does something of its own. Only here is the page touched, and only when called. */

import { fromBase64 } from './frames';
import type { BinaryData } from './protocol';

/** How long a notification is shown within the page. */
const SHOWN_MS = 6_000;

/** Shows a picture at the end of the page. */
export function displayImage(data: BinaryData): HTMLImageElement {
  const image = document.createElement('img');
  image.src = `data:${data.content_type};base64,${data.binary_data}`;
  image.alt = data.filename ?? '';
  document.body.appendChild(image);
  return image;
}

/** Hands bytes to the person as a file. */
export function downloadFile(data: BinaryData): void {
  const bytes = data.bytes ? new Uint8Array(data.bytes) : fromBase64(data.binary_data);
  saveBlob(new Blob([bytes], { type: data.content_type }), data.filename || 'download');
}

export function saveBlob(blob: Blob, filename: string): void {
  const address = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = address;
  link.download = filename;
  link.click();
  // Some browsers read it a moment after the click.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Shows a notification: the system's where that is permitted, else a small text in the page for some seconds. */
export function showNotification(title: string, body: string): void {
  if (typeof Notification === 'function' && Notification.permission === 'granted') {
    try {
      new Notification(title, { body });
      return;
    } catch {
      // On phones only a service worker may.
    }
  }
  if (typeof document === 'undefined') {
    console.info(`${title}: ${body}`);
    return;
  }
  const box = document.createElement('div');
  box.className = 'veche-notification';
  box.setAttribute('role', 'status');
  box.style.cssText =
    'position:fixed;right:16px;bottom:16px;max-width:320px;padding:12px 16px;border-radius:12px;z-index:9999;' +
    'background:#1e2422;color:#fff;font:14px/1.4 system-ui,sans-serif;box-shadow:0 4px 20px rgb(0 0 0/30%)';
  const heading = document.createElement('strong');
  heading.textContent = title;
  const text = document.createElement('div');
  text.textContent = body;
  box.append(heading, text);
  document.body.appendChild(box);
  setTimeout(() => box.remove(), SHOWN_MS);
}
