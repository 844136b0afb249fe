// Test runner: the package's own import names resolve to the sources, one Postgres serves all files.
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const source = (path: string) => fileURLToPath(new URL(`src/${path}`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^izta$/, replacement: source('index.ts') },
      { find: /^izta\/lambda$/, replacement: source('aws/lambda.ts') },
      { find: /^izta\/local$/, replacement: source('local/index.ts') },
      { find: /^izta\/neon$/, replacement: source('adapters/neon.ts') },
      { find: /^izta\/neon-socket$/, replacement: source('adapters/neon-socket.ts') },
      { find: /^izta\/opentelemetry$/, replacement: source('observe/opentelemetry.ts') },
      { find: /^izta\/pg$/, replacement: source('adapters/pg.ts') },
      { find: /^izta\/remote$/, replacement: source('aws/remote.ts') },
      { find: /^izta\/testing$/, replacement: source('testing/index.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    // Files run side by side: a file waits for its database much of the time.
    maxWorkers: 2,
    testTimeout: 20_000,
    hookTimeout: 60_000,
  },
})
