// Test runner: the package's own import names resolve to the sources, one embedded Postgres serves all files.
import { defineConfig } from 'vitest/config'

const source = (path: string) => new URL(path, import.meta.url).pathname

export default defineConfig({
  resolve: {
    alias: [
      { find: /^izta$/, replacement: source('src/index.ts') },
      { find: /^izta\/(pg|neon)$/, replacement: source('src/db/adapters/') + '$1.ts' },
      { find: /^izta\/lambda$/, replacement: source('src/aws/lambda.ts') },
      { find: /^izta\/local$/, replacement: source('src/local/index.ts') },
      { find: /^izta\/testing$/, replacement: source('src/testing/index.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 20_000,
    hookTimeout: 60_000,

  },
})
