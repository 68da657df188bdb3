// Where things are, and where a failed test leaves what explains it.

import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** The repository. */
export const root = path.resolve(here, '../..');

/** A file for what a test leaves behind. */
export async function outputFile(test, name) {
  const folder = path.join(here, 'output', test.replace(/[^\p{L}\p{N}]+/gu, '-').slice(0, 80));
  await mkdir(folder, { recursive: true });
  return path.join(folder, name);
}
