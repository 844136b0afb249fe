// A process that enqueues, cancels and ticks the schedules, and notes in the ledger what was accepted.
// oxlint-disable-next-line import/no-unassigned-import -- changes the defaults before anything reads them
import './pace.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import { uuidv7 } from 'uuidv7'
import { createSchedulerHandler } from '../../src/aws/scheduler-handler.ts'
import { createIzta, type EnqueueItem } from '../../src/index.ts'
import { allJobs, createJobs, createSchedules } from './jobs.ts'
import { createLedger } from './ledger.ts'
import { childSettings, openDatabase, quiet } from './child.ts'
import { createRandom } from './random.ts'

const settings = childSettings()
const { ledgerUrl, seed } = settings
const random = createRandom(seed)
const ledger = createLedger(ledgerUrl)
const jobs = createJobs()
const database = openDatabase(settings)
const izta = createIzta({ database, jobs: allJobs(jobs), schedules: createSchedules(jobs), log: quiet })
const tick = createSchedulerHandler({ izta })
/** Unfinished tasks that are enough: the faults are to meet tasks, not a backlog. */
const enough = 120
let enqueuing = true

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

function anyItem(): EnqueueItem {
  const ms = random.chance(0.1) ? random.between(300, 800) : random.between(0, 120)
  const kind = random.next()
  if (kind < 0.1) return [jobs.flaky, { failures: random.between(1, 2) }]
  if (kind < 0.2) {
    const failsAlways = random.chance(0.2)
    return [
      jobs.parent,
      {
        children: random.between(1, 4),
        keyed: random.chance(0.3),
        failsFirst: random.chance(0.3),
        failsAlways,
      },
    ]
  }
  if (kind < 0.3) return [jobs.bare, { ms }]
  if (kind < 0.36)
    return [
      jobs.keyed,
      { ms },
      { key: `key ${random.between(1, 8)}`, keyUntil: random.chance(0.5) ? 'started' : 'finished' },
    ]
  if (kind < 0.4) return [jobs.recent, { ms }]
  const options = random.chance(0.2)
    ? { delaySeconds: random.next() }
    : random.chance(0.2)
      ? { id: uuidv7() }
      : {}
  return [jobs.work, { ms }, { ...options, priority: random.between(0, 9) }]
}

/** What is a fault by itself. */
function troublemaker(kind: string): EnqueueItem {
  if (kind === 'poison') return [jobs.poison, {}]
  if (kind === 'blocked-loop') return [jobs.blocker, {}]
  if (kind === 'ignored-signal') return [jobs.stubborn, {}]
  if (kind === 'unknown-job') return [jobs.recent, { ms: 10 }]
  if (kind === 'odd-text')
    return [
      jobs.odd,
      { text: ['\0', '\ud800', '"\\\u2028', '\u0000'.repeat(5000)][random.between(0, 3)] ?? '' },
    ]
  return [jobs.unstorable, { kind: random.between(0, 4) }]
}

async function enqueueOn(): Promise<void> {
  const recent: string[] = []
  for (;;) {
    await sleep(random.between(10, 60))
    try {
      const [{ n } = { n: 0 }] = await ledger.read<{ n: number }>(
        `select count(*)::int as n from izta.task where run_at < now() + interval '10 seconds'`,
      )
      if (!enqueuing || n > enough) continue
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
    await tick().catch(() => undefined)
    await sleep(random.between(200, 700))
  }
}

async function insist(item: EnqueueItem): Promise<void> {
  const [job, payload] = item
  const id = uuidv7()
  for (let tries = 0; tries < 20; tries++) {
    try {
      await izta.enqueueMany([[job, payload, { id }]] as never)
      return await ledger.write(accept, [[id], [job.id]])
    } catch {
      await sleep(200)
    }
  }
}

process.on('message', (message: { enqueuing?: boolean; ticks?: number; troublemaker?: string }) => {
  if (message.enqueuing !== undefined) enqueuing = message.enqueuing
  for (let n = 0; n < (message.ticks ?? 0); n++) void tick().catch(() => undefined)
  if (message.troublemaker !== undefined) void insist(troublemaker(message.troublemaker))
})
process.once('disconnect', () => process.exit())

await Promise.all([enqueueOn(), tickOn()])
