// All kinds of faults, by name.
import { databaseKinds } from './kinds/database.ts'
import type { Kind } from './kinds/kind.ts'
import { networkKinds } from './kinds/network.ts'
import { processKinds } from './kinds/processes.ts'
import { workKinds } from './kinds/work.ts'

const all = { ...processKinds, ...networkKinds, ...databaseKinds, ...workKinds }

export type KindName = keyof typeof all
export const kinds: Readonly<Record<KindName, Kind>> = all
export const kindNames = Object.keys(all) as KindName[]
