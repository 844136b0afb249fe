// A process of runners: one invocation after the other, as Lambda would start them, until it is killed.
import { leaseMs, invocationMs } from './pace.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import { createRunnerHandler } from '../../src/aws/runner-handler.ts'
import { createIzta } from '../../src/index.ts'
import { createJobs } from './jobs.ts'
import { createLedger } from './ledger.ts'
import { childSettings, openDatabase, quiet } from './child.ts'

const settings = childSettings()
const { ledgerUrl, generation } = settings
const { recent, ...older } = createJobs(createLedger(ledgerUrl, { onStarted }))
const jobs = generation === 'new' ? [...Object.values(older), recent] : Object.values(older)
const database = openDatabase(settings)
const izta = createIzta({ database, jobs, log: quiet })
const handler = createRunnerHandler({ izta, concurrency: 5 })

let idleMs = 0
let inTask: 'SIGKILL' | 'SIGSTOP' | undefined

/** Stops or kills itself in the middle of a task, after a word to the harness. */
async function onStarted(): Promise<void> {
  const signal = inTask
  if (signal === undefined) return
  inTask = undefined
  await new Promise((sent) => process.send?.({ signal }, sent))
  process.kill(process.pid, signal)
}

async function invoke(): Promise<void> {
  const endsAtMs = performance.now() + invocationMs
  const getRemainingTimeInMillis = () => Math.max(0, endsAtMs - performance.now())
  await handler({}, { getRemainingTimeInMillis }).catch(() => undefined)
}

/** `storm`: so many triggers at once; `idle`: none for so many milliseconds; `inTask`: what to do to itself in a task. */
process.on('message', (message: { storm?: number; idle?: number; inTask?: 'SIGKILL' | 'SIGSTOP' }) => {
  inTask ??= message.inTask
  for (let n = 0; n < (message.storm ?? 0); n++) void invoke()
  if (message.idle !== undefined) idleMs = Math.min(message.idle, leaseMs)
})
process.once('disconnect', () => process.exit())

for (;;) {
  await invoke()
  await sleep(20 + idleMs)
  idleMs = 0
}
