// The works that take a source tree of izta, by name.
import { busy } from './busy.ts'
import { invocations } from './invocations.ts'

export const treeWorks = { busy, invocations }
export type TreeWorks = typeof treeWorks
