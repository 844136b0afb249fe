// What callers need of `sync-feed`: its schemas, without the work.
import * as z from 'zod'
import { defineJob } from '../../src/index.ts'

export const feed = z.object({ name: z.string().min(1).max(100), url: z.url({ protocol: /^https?$/ }) })

export const syncFeed = defineJob({
  id: 'sync-feed',
  payload: feed,
  result: z.object({ bytes: z.int(), etag: z.string().nullable() }),
  error: z.object({ code: z.literal('http-status'), status: z.int() }),
  queue: 'feeds',
  timeoutSeconds: 30,
})
