// The deployment test: apart from the other tests, since it installs and starts an AWS emulator.
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const source = (path: string) => fileURLToPath(new URL(`../../src/${path}`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^izta$/, replacement: source('index.ts') },
      { find: /^izta\/pg$/, replacement: source('adapters/pg.ts') },
      { find: /^izta\/remote$/, replacement: source('aws/remote.ts') },
    ],
  },
  test: {
    root: fileURLToPath(new URL('.', import.meta.url)),
    include: ['*.check.ts'],
    // Each check builds upon the one before.
    bail: 1,
    testTimeout: 120_000,
    hookTimeout: 180_000,
    disableConsoleIntercept: true,
    reporters: ['verbose'],
  },
})
