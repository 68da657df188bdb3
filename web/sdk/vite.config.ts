import path from 'node:path';
import { defineConfig } from 'vite';

const source = (name: string) => path.join(import.meta.dirname, 'src', name);

// The package for npm: two entries, nothing bundled twice. `npm pack` builds it.
export default defineConfig({
  root: import.meta.dirname,
  build: {
    target: 'es2022',
    outDir: 'dist',
    emptyOutDir: true,
    minify: false,
    lib: { entry: { index: source('index.ts'), realtime: source('realtime/index.ts') }, formats: ['es'] },
  },
});
