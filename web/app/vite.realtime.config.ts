import path from 'node:path';
import { defineConfig } from 'vite';
import app from './vite.config.ts';

const page = (name: string) => path.join(import.meta.dirname, 'realtime', `${name}.html`);

// The test pages, beside the app: built apart, so that neither loads anything of the other.
export default defineConfig({
  ...app,
  build: {
    ...app.build,
    emptyOutDir: false,
    rollupOptions: { input: [page('test'), page('sse-test')] },
  },
});
