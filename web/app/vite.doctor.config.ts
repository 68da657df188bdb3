import path from 'node:path';
import { defineConfig } from 'vite';
import app from './vite.config.ts';

// The page for whoever cannot get in, built apart: it loads nothing of the call, and the call nothing of it.
export default defineConfig({
  ...app,
  build: {
    ...app.build,
    emptyOutDir: false,
    rollupOptions: { input: path.join(import.meta.dirname, 'doctor.html') },
  },
});
