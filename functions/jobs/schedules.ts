// The schedules of this deployment.
import { defineSchedule } from '../../src/index.ts'
import { syncFeeds } from './sync-feeds.ts'

const hourlyFeeds = defineSchedule({
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

export const schedules = [hourlyFeeds]
