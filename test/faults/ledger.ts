// The handlers' way into the ledger: a connection of its own, that no injected fault but the server's end can touch.
import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'pg'
import { uuidv7 } from 'uuidv7'
import type { Izta } from '../../src/index.ts'
import type { JobContext } from '../../src/job/context.ts'
import { machineNow } from './child.ts'

export interface Ledger {
  /** Writes, again and again until the database has taken it: the text must be safe to repeat. */
  write(text: string, values: readonly unknown[]): Promise<void>
  read<T>(text: string, values?: readonly unknown[]): Promise<T[]>
  /** Notes what the instance says became of its tasks, some at a time; the last of it goes with a process that dies. */
  listen(izta: Pick<Izta, 'on'>): void
  /** Runs the work of a handler between its first and its last line in the ledger. */
  run<T>(ctx: JobContext<unknown>, work: (runId: string) => Promise<T> | T): Promise<T>
}

// The lease is this claim's only if nobody has counted a loss or an attempt since.
const start = `
insert into ledger.run (id, task, job, attempt, losses, process, started_at, may_run_until, lease_until)
select $1::uuid, $2::uuid, $3::text, $4::integer, $5::integer, $6::uuid, $7::timestamptz, $8::timestamptz, (
  select ledger.real(t.run_at) from izta.task t
  where t.id = $2::uuid and t.lease is not null and t.run_at > izta.now() and t.losses = $5::integer and t.attempt = $4::integer - 1)
on conflict do nothing`
const end = `update ledger.run set ended_at = clock_timestamp(), outcome = $2 where id = $1`

const say = `
insert into ledger.said (task, event, attempt, process, at)
select *, $4::uuid, $5::timestamptz from unnest($1::uuid[], $2::text[], $3::integer[])`

const processId = uuidv7()
const sayMs = 100
const told = [
  'task.claimed',
  'task.finished',
  'task.failed',
  'task.retried',
  'task.released',
  'task.deferred',
  'task.stuck',
  'lease.expired',
] as const

export interface LedgerOptions {
  /** While a handler runs, after its first line in the ledger. */
  readonly onStarted?: () => Promise<void>
}

export function createLedger(url: string, { onStarted }: LedgerOptions = {}): Ledger {
  const max = 3
  const pool = new Pool({ connectionString: url, max, connectionTimeoutMillis: 2000, query_timeout: 5000 })
  pool.on('error', () => undefined)
  pool.on('connect', (client) => client.on('error', () => undefined))

  async function read<T>(text: string, values: readonly unknown[] = []): Promise<T[]> {
    const { rows } = await pool.query(text, [...values])
    return rows as T[]
  }
  async function write(text: string, values: readonly unknown[]): Promise<void> {
    for (;;) {
      try {
        await read(text, values)
        return
      } catch (error) {
        const state = error instanceof Error && 'code' in error ? String(error.code) : ''
        // A mistake of the harness, which would be repeated for ever.
        if (/^(22|23|42)/.test(state)) throw error
        await sleep(50)
      }
    }
  }

  function listen(izta: Pick<Izta, 'on'>): void {
    let waiting: { readonly task: string; readonly event: string; readonly attempt: number }[] = []
    async function flush(): Promise<void> {
      const said = waiting
      waiting = []
      const columns = [
        said.map(({ task }) => task),
        said.map(({ event }) => event),
        said.map(({ attempt }) => attempt),
      ]
      await write(say, [...columns, processId, new Date(machineNow())])
    }
    for (const event of told) {
      izta.on(event, ({ taskId: task, attempt }) => {
        if (waiting.push({ task, event, attempt }) === 1) setTimeout(() => void flush(), sayMs)
      })
    }
  }

  return {
    read,
    write,
    listen,
    async run(ctx, work) {
      const id = uuidv7()
      // The harness and its database share one machine, and so one clock.
      // Rounded up: a lease's end has fractions of milliseconds.
      const startedAt = new Date(machineNow() + 1)
      const mayRunUntil = new Date(machineNow() + ctx.remainingMs())
      const { task, attempt, losses } = ctx
      await write(start, [id, task.id, task.job, attempt, losses, processId, startedAt, mayRunUntil])
      const finish = async (outcome: string) => {
        await write(end, [id, ctx.signal.aborted ? codeOf(ctx.signal.reason) : outcome])
      }
      try {
        await onStarted?.()
        ctx.signal.throwIfAborted()
        const result = await work(id)
        await write(end, [id, 'ok'])
        return result
      } catch (error) {
        // What the runner makes of it depends on whether the signal has aborted by the time it sees the error.
        let wasAborted: boolean
        do {
          wasAborted = ctx.signal.aborted
          await finish('threw')
        } while (wasAborted !== ctx.signal.aborted)
        throw error
      }
    },
  }
}

const codeOf = (reason: unknown) => String((reason as { code?: unknown } | undefined)?.code ?? 'aborted')
