// What `izta doctor` knows of an installation, and how it asks the database.
import {
  bindSchema,
  inSchema,
  writtenSchema,
  type Database,
  type Row,
  type Statement,
} from '../../db/database.ts'
import { gateOf } from '../../db/gate.ts'
import { throughGate, type GatedDatabase } from '../../db/gated.ts'
import { checkSchema, type SchemaState } from '../../db/migrate.ts'
import { IztaError, readableMessage } from '../../errors.ts'
import type { AnyJob } from '../../job/job.ts'
import { nextAlarmStatement, readNextAlarm, type NextAlarm } from '../../store/due.ts'
import * as health from '../../store/health.ts'
import * as server from '../../store/health-server.ts'
import type { StackFacts } from './stack.ts'

/** What could not be asked is absent; the trouble with it, if there was any, stands in `troubles`. */
export interface Facts {
  readonly connectionString?: string | undefined
  readonly schemaName: string
  /** The fastest of three, in milliseconds. */
  readonly statementMs?: number | undefined
  readonly server?: server.ServerFacts | undefined
  /** How far this machine's clock is ahead of the database's, and how far off that may be. */
  readonly skew?: { readonly aheadMs: number; readonly errorMs: number } | undefined
  readonly missingPrivileges?: readonly string[] | undefined
  readonly schema?: SchemaState | undefined
  readonly tables?: ReadonlyMap<string, server.TableFacts> | undefined
  readonly holders?: readonly server.Holder[] | undefined
  readonly queues?: readonly health.QueueHealth[] | undefined
  readonly jobs?: readonly health.JobHealth[] | undefined
  readonly schedules?: health.ScheduleHealth | undefined
  readonly alarm?: NextAlarm | undefined
  readonly history?: health.HistoryHealth | undefined
  /** What code defines, as opposed to what the database holds. */
  readonly definitions?: readonly AnyJob[] | undefined
  readonly stack?: StackFacts | undefined
  readonly troubles: readonly Trouble[]
}

/** A question that got no answer. */
export interface Trouble {
  readonly about: string
  /** An error's code, such as `database-access`. */
  readonly code: string
  readonly message: string
}

export interface DoctorTarget {
  readonly database: Database
  readonly schemaName: string
  /** This machine's clock. */
  readonly now: () => number
}

/** Asks the database everything, one question after the other; ends early where the rest would fail alike. */
export async function gatherDatabaseFacts(
  target: DoctorTarget,
): Promise<Partial<Facts> & Pick<Facts, 'troubles'>> {
  const { schemaName } = target
  const database = throughGate(target.database, { callTimeoutSeconds })
  const troubles: Trouble[] = []
  const own = throughGate(inSchema(target.database, schemaName), {
    gate: gateOf(target.database),
    callTimeoutSeconds,
  })

  /** Of the catalogs, where the name is a value, or of izta's tables, where it is translated. */
  async function ask<T>(about: string, on: GatedDatabase, statement: Statement, read: (rows: Row[]) => T) {
    return attempt(troubles, about, async () => read(await on.query(statement)))
  }

  const reached = await attempt(troubles, 'database', () => meet(database, target))
  if (reached === undefined) return { troubles }
  const catalogs = {
    missingPrivileges: await ask(
      'privileges',
      database,
      server.missingPrivilegesStatement(schemaName),
      server.readMissingPrivileges,
    ),
    holders: await ask('xmin horizon', database, server.holdersStatement, server.readHolders),
    tables: await ask('dead rows', database, server.tablesStatement(schemaName), server.readTables),
  }
  const schema = await attempt(troubles, 'schema', () => checkSchema(target.database, { schema: schemaName }))
  const facts = { ...reached, ...catalogs, schema, troubles }
  if (schema === undefined || schema.applied.length === 0) return facts
  return {
    ...facts,
    queues: await ask('queues', own, health.queueHealthStatement, health.readQueueHealth),
    jobs: await ask('failures', own, health.jobHealthStatement, health.readJobHealth),
    schedules: await ask('schedules', own, health.scheduleHealthStatement, health.readScheduleHealth),
    alarm: await ask('alarm', own, nextAlarmStatement, readNextAlarm),
    history: await ask('history', own, health.historyHealthStatement, health.readHistoryHealth),
  }
}

const looks = 3
/** The tables of a large history take longer than a call of the application may. */
const callTimeoutSeconds = 30

/** The first statement also opens the connection, so the fastest of several tells how long one takes. */
async function meet(database: GatedDatabase, { schemaName, now }: DoctorTarget) {
  const seen: { tookMs: number; aheadMs: number; facts: server.ServerFacts }[] = []
  for (let look = 0; look < looks; look++) {
    const startedMs = now()
    const started = performance.now()
    const facts = server.readServer(await database.query(server.serverStatement(schemaName)))
    const tookMs = performance.now() - started
    seen.push({ tookMs, facts, aheadMs: startedMs + tookMs / 2 - facts.nowMs })
  }
  const [fastest] = seen.toSorted((a, b) => a.tookMs - b.tookMs)
  if (fastest === undefined) throw new TypeError('nothing was looked at')
  const { tookMs, aheadMs, facts } = fastest
  return { statementMs: tookMs, server: facts, skew: { aheadMs, errorMs: tookMs / 2 } }
}

/** The answer, or nothing and an entry in `troubles`. */
export async function attempt<T>(
  troubles: Trouble[],
  about: string,
  action: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await action()
  } catch (error) {
    if (!IztaError.is(error)) throw error
    troubles.push({ about, code: error.code, message: readableMessage(error) })
    return undefined
  }
}

/** The schema's name as it must be written in SQL. */
export const quotedSchema = (schemaName: string): string => bindSchema(writtenSchema, schemaName)

/**
 * Whether alarms start what is due, and no ticks. Without the stack only an alarm that is still to go off tells it: one
 * that has passed may be of a mode that was given up.
 */
export const isSleepy = ({ stack, alarm }: Facts): boolean =>
  stack?.setsAlarms ?? (alarm?.armedAt !== undefined && alarm.armedAt > alarm.now)
