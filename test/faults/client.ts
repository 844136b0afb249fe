// A process that enqueues, cancels and ticks the schedules, and notes in the ledger what was accepted.
// oxlint-disable-next-line import/no-unassigned-import -- changes the defaults before anything reads them
import './pace.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import { uuidv7 } from 'uuidv7'
import { createSchedulerHandler } from '../../src/aws/scheduler-handler.ts'
import { createIzta, type EnqueueItem } from '../../src/index.ts'
import { allJobs, createJobs, createSchedules } from './jobs.ts'
import { createLedger } from './ledger.ts'
import { childSettings, openDatabase, quiet, sendUp } from './child.ts'
import { createItems } from './items.ts'
import { createRandom } from './random.ts'

export interface ClientOrder {
  /** Whether tasks are enqueued without an order. */
  readonly enqueuing?: boolean
  /** Whether the schedules are ticked without an order. */
  readonly ticking?: boolean
  /** So many ticks at once. */
  readonly ticks?: number
  /** So many tasks that take a while, at once. */
  readonly burst?: number
  /** A task that is a fault by itself. */
  readonly troublemaker?: string
}

const settings = childSettings()
const { ledgerUrl, seed } = settings
const random = createRandom(seed)
const ledger = createLedger(ledgerUrl)
const jobs = createJobs()
const { anyItem, slowItem, troublemaker } = createItems(jobs, random)
const database = openDatabase(settings)
const izta = createIzta({
  database,
  jobs: allJobs(jobs),
  schedules: createSchedules(jobs),
  log: quiet,
  wake: { wake: async (queue) => void (await sendUp({ wake: queue })) },
})
const tick = createSchedulerHandler({ izta })

/** Due tasks come in waves: up to so many, then none until so few are left, or the last priorities would starve. */
const [high, low] = [80, 8]
let enqueuing = true
let ticking = true

const accept = `
insert into ledger.accepted (task, job)
select * from unnest($1::uuid[], $2::text[]) on conflict do nothing`

async function enqueue(items: readonly EnqueueItem[]): Promise<string[]> {
  const enqueued = await izta.enqueueMany(items as [])
  const created = (enqueued as { id: string; created: boolean }[]).flatMap(({ id, created: isNew }, index) =>
    isNew ? [{ id, job: items[index]?.[0].id }] : [],
  )
  await ledger.write(accept, [created.map(({ id }) => id), created.map(({ job }) => job)])
  return created.map(({ id }) => id)
}

async function enqueueOn(): Promise<void> {
  const recent: string[] = []
  let rising = true
  for (;;) {
    await sleep(random.between(10, 60))
    try {
      const [{ n } = { n: 0 }] = await ledger.read<{ n: number }>(
        `select count(*)::int as n from izta.task where schedule is null or run_at < izta.now()`,
      )
      rising = rising ? n < high : n < low
      if (!enqueuing || !rising) continue
      recent.push(
        ...(await enqueue(Array.from({ length: random.chance(0.2) ? random.between(2, 20) : 1 }, anyItem))),
      )
      if (random.chance(0.05)) await cancel(recent.at(-1))
      if (recent.length > 100) recent.splice(0, 50)
    } catch {
      // A refused or lost call was not accepted: it is none of the ledger's business.
    }
  }
}

async function cancel(id: string | undefined): Promise<void> {
  if (id === undefined) return
  await ledger.write('update ledger.accepted set cancelled = true where task = $1', [id])
  await izta.cancel(id)
}

async function tickOn(): Promise<void> {
  for (;;) {
    if (ticking) await tick().catch(() => undefined)
    await sleep(random.between(200, 700))
  }
}

/** An enqueue that may be sent often, by one id, until it is accepted. */
async function insist([job, payload, options]: EnqueueItem): Promise<void> {
  const id = uuidv7()
  for (let tries = 0; tries < 20; tries++) {
    try {
      await izta.enqueueMany([[job, payload, { ...options, id }]] as never)
      return await ledger.write(accept, [[id], [job.id]])
    } catch {
      await sleep(200)
    }
  }
}

process.on('message', (order: ClientOrder) => {
  enqueuing = order.enqueuing ?? enqueuing
  ticking = order.ticking ?? ticking
  for (let n = 0; n < (order.ticks ?? 0); n++) void tick().catch(() => undefined)
  for (let n = 0; n < (order.burst ?? 0); n++) void insist(slowItem())
  if (order.troublemaker !== undefined) void insist(troublemaker(order.troublemaker))
})
process.once('disconnect', () => process.exit())

await Promise.all([enqueueOn(), tickOn()])
