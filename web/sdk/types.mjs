// Completes the package: Node's resolution wants file endings in the declarations, and npm wants the licences.

import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

const here = import.meta.dirname;
const types = path.join(here, 'dist/types');
for (const name of await readdir(types, { recursive: true })) {
  if (!name.endsWith('.d.ts')) continue;
  const file = path.join(types, name);
  const text = await readFile(file, 'utf8');
  await writeFile(file, text.replace(/(from '|import\(')(\.{1,2}\/[^']+?)(')/g, '$1$2.js$3'));
}
for (const licence of ['LICENSE-MIT', 'LICENSE-APACHE']) await copyFile(path.join(here, '../..', licence), path.join(here, licence));
