// The jobs of this deployment, with their handlers.
import { divide } from './divide.ts'
import { syncFeedJob } from './sync-feed-handler.ts'
import { syncFeedsJob } from './sync-feeds-handler.ts'

export const jobs = [divide, syncFeedsJob, syncFeedJob]
