// izta as it was at the commit that `tree.ts` names, through its public API.
import { iztaQueue } from '../izta-queue.ts'
import { openTree } from '../tree.ts'

export const tree = await openTree('before')
export const openQueue = iztaQueue(tree)
