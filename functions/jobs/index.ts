// The jobs and schedules of this deployment.
import { divide } from './divide.ts'
import { syncFeedJob } from './sync-feed-handler.ts'
import { syncFeedsJob } from './sync-feeds-handler.ts'
import { hourlyFeeds } from './sync-feeds.ts'

export const jobs = [divide, syncFeedsJob, syncFeedJob]
export const schedules = [hourlyFeeds]
