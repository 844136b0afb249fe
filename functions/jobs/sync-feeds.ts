// What callers need of `sync-feeds`, and the schedule that starts it every hour.
import * as z from 'zod'
import { defineJob, defineSchedule } from '../../src/index.ts'
import { feed } from './sync-feed.ts'

export const syncFeeds = defineJob({
  id: 'sync-feeds',
  payload: z.object({ feeds: z.array(feed).max(1000) }),
  queue: 'feeds',
})

export const hourlyFeeds = defineSchedule({
  name: 'hourly-feeds',
  job: syncFeeds,
  payload: {
    feeds: [
      { name: 'node-releases', url: 'https://github.com/nodejs/node/releases.atom' },
      { name: 'postgresql-news', url: 'https://www.postgresql.org/news.rss' },
    ],
  },
  cron: '0 * * * *',
})
