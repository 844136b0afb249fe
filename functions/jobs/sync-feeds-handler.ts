// The work of `sync-feeds`: fans out one `sync-feed` per feed.
import { implementJob } from '../../src/index.ts'
import { syncFeed } from './sync-feed.ts'
import { syncFeeds } from './sync-feeds.ts'

export const syncFeedsJob = implementJob(syncFeeds, ({ feeds }, ctx) => {
  for (const feed of feeds) {
    // With its name as key, a feed that the hour before has not finished is not fetched twice at once.
    ctx.enqueue(syncFeed, feed, { key: feed.name })
  }
})
