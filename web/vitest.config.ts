import { defaultServerConditions } from 'vite';
import { defineConfig } from 'vitest/config';

const conditions = ['veche-source', ...defaultServerConditions];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { include: ['sdk/tests/**/*.test.ts', 'app/tests/**/*.test.ts'] },
});
