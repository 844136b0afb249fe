// What callers need of `sync-feed`: its schemas, without the work.
import * as z from 'zod/mini'
import { defineJob } from '../../src/index.ts'

export const feed = z.object({
  name: z.string().check(z.minLength(1), z.maxLength(100)),
  url: z.url({ protocol: /^https?$/ }),
})

export const syncFeed = defineJob({
  id: 'sync-feed',
  payload: feed,
  result: z.object({ bytes: z.int(), etag: z.nullable(z.string()) }),
  error: z.object({ code: z.literal('http-status'), status: z.int() }),
  queue: 'feeds',
  timeoutSeconds: 30,
})
