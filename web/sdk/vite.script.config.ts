import path from 'node:path';
import { defineConfig } from 'vite';

// The plain script for pages without a build: `<script src="/realtime/client.js">` gives the global `Veche`. Committed with
// the web client, and served by the server.
export default defineConfig({
  root: import.meta.dirname,
  build: {
    target: 'es2022',
    outDir: '../app/dist/realtime',
    emptyOutDir: false,
    lib: {
      entry: path.join(import.meta.dirname, 'src/realtime/index.ts'),
      name: 'Veche',
      formats: ['iife'],
      fileName: () => 'client.js',
    },
  },
});
