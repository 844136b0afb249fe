// The work of `sync-feed`: fetches one feed.
import { implementJob } from '../../src/index.ts'
import { syncFeed } from './sync-feed.ts'

export const syncFeedJob = implementJob(syncFeed, async ({ url }, ctx) => {
  const response = await fetch(url, { signal: ctx.signal })
  if (!response.ok) {
    // A feed that is gone stays gone; of anything else the next attempt may be luckier.
    const retry = response.status === 429 || response.status >= 500
    return ctx.fail({ code: 'http-status', status: response.status }, { retry })
  }
  const body = await response.arrayBuffer()
  return { bytes: body.byteLength, etag: response.headers.get('etag') }
})
