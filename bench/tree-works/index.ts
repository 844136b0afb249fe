// The works that take a source tree of izta, by name.
import { busy } from './busy.ts'
import { claimers } from './claimers.ts'
import { claims } from './claims.ts'
import { invocations } from './invocations.ts'
import { pruning } from './pruning.ts'

export const treeWorks = { busy, claimers, claims, invocations, pruning }
export type TreeWorks = typeof treeWorks
