// Runs the tests, one file after the other: two cores carry one call at a time.
//
//   npm test                    all
//   npm test -- codecs loss     these files
//   npm test -- -t "a reload"   the tests whose name matches
//   REPEAT=10 npm test          every test ten times

import { spawn } from 'node:child_process';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const names = [];
const options = ['--test', '--test-concurrency=1', '--test-reporter=spec'];
for (let index = 2; index < process.argv.length; index++) {
  if (process.argv[index] === '-t') options.push(`--test-name-pattern=${process.argv[++index]}`);
  else names.push(process.argv[index].replace(/\.test\.mjs$/, ''));
}
const files = (await readdir(here)).filter((name) => name.endsWith('.test.mjs')).sort();
const chosen = names.length > 0 ? files.filter((file) => names.includes(file.replace('.test.mjs', ''))) : files;
if (chosen.length === 0) {
  console.error(`no such tests; there are: ${files.join(' ')}`);
  process.exit(2);
}
await rm(path.join(here, 'output'), { recursive: true, force: true });
const child = spawn(process.execPath, [...options, ...chosen], { cwd: here, stdio: 'inherit' });
child.on('exit', (code) => process.exit(code ?? 1));
