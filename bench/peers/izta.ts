// izta as it is now, through its public API.
import { iztaQueue } from '../izta-queue.ts'
import { openTree } from '../tree.ts'

export const tree = await openTree('now')
export const openQueue = iztaQueue(tree)
