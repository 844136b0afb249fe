// What callers need of `sync-feeds`: its schemas, without the work.
import * as z from 'zod/mini'
import { defineJob } from '../../src/index.ts'
import { feed } from './sync-feed.ts'

export const syncFeeds = defineJob({
  id: 'sync-feeds',
  payload: z.object({ feeds: z.array(feed).check(z.maxLength(1000)) }),
  queue: 'feeds',
})
