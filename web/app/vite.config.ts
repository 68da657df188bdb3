import { defaultClientConditions, defineConfig } from 'vite';

// The output is committed and embedded in the server: the same sources must give the same files everywhere.
export default defineConfig({
  root: import.meta.dirname,
  // The SDK as it is written, not as it is packed for npm.
  resolve: { conditions: ['veche-source', ...defaultClientConditions] },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2022',
    outDir: 'dist',
    emptyOutDir: true,
    modulePreload: false,
    assetsInlineLimit: 0,
  },
});
