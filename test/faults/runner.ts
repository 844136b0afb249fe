// A process of runners: one invocation after the other, as Lambda would start them, until it is killed.
import { leaseMs, invocationMs } from './pace.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import { createRunnerEnvironment } from '../../src/aws/runner-handler.ts'
import { createIzta } from '../../src/index.ts'
import { createJobs } from './jobs.ts'
import { createLedger } from './ledger.ts'
import { childSettings, openDatabase, quiet, sendUp } from './child.ts'

export interface RunnerOrder {
  /** So many triggers at once. */
  readonly storm?: number
  /** No trigger for so many milliseconds. */
  readonly idle?: number
  /** What to do to itself in a task. */
  readonly inTask?: 'SIGKILL' | 'SIGSTOP'
  /** Ends in order, as a process that a deployment replaces. */
  readonly retire?: boolean
  /** Whether invocations wait for triggers, instead of following each other. */
  readonly asleep?: boolean
}

const settings = childSettings()
const { ledgerUrl, generation } = settings
const ledger = createLedger(ledgerUrl, { onStarted })
const { recent, ...older } = createJobs(ledger)
const jobs = generation === 'new' ? [...Object.values(older), recent] : Object.values(older)
const database = openDatabase(settings)
const izta = createIzta({
  database,
  jobs,
  log: quiet,
  wake: { wake: async (queue) => void (await sendUp({ wake: queue })) },
})
ledger.listen(izta)
const runner = createRunnerEnvironment({ izta, concurrency: 4 })

let idleMs = 0
let asleep = settings.asleep
let inTask: RunnerOrder['inTask']

/** Stops or kills itself in the middle of a task, after a word to the harness. */
async function onStarted(): Promise<void> {
  const signal = inTask
  if (signal === undefined) return
  inTask = undefined
  await sendUp({ signal })
  process.kill(process.pid, signal)
}

async function invoke(): Promise<void> {
  const endsAtMs = performance.now() + invocationMs
  const getRemainingTimeInMillis = () => Math.max(0, endsAtMs - performance.now())
  await runner.handler({}, { getRemainingTimeInMillis }).catch(() => undefined)
}

process.on('message', (order: RunnerOrder) => {
  inTask ??= order.inTask
  asleep = order.asleep ?? asleep
  for (let n = 0; n < (order.storm ?? 0); n++) void invoke()
  if (order.idle !== undefined) idleMs = Math.min(order.idle, leaseMs)
  if (order.retire === true) void retire()
})
process.once('disconnect', () => process.exit())

async function retire(): Promise<void> {
  asleep = true
  await runner.stop()
  process.exit()
}

for (;;) {
  if (!asleep) await invoke()
  await sleep(20 + idleMs)
  idleMs = 0
}
