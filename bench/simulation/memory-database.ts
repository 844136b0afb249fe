// The statements that a day of the policy sends, answered from memory: one queue, one priority, no failures. What
// they mean is decided by the SQL; `--validate` of the simulation replays a trace against both and compares.
import type { Database, Row, SqlText } from '../../src/db/database.ts'
import { alarmMarginSeconds, nextAlarmStatement, recordAlarmStatement } from '../../src/store/due.ts'
import { pruneStatement } from '../../src/store/prune.ts'
import { registerQueuesStatement, wakeDueStatement } from '../../src/store/queues.ts'
import { toPlanStatement } from '../../src/store/slots.ts'

interface StoredTask {
  readonly id: string
  readonly queue: string
  readonly job: string
  readonly payload: string
  readonly priority: string
  readonly maxAttempts: string
  readonly createdMs: number
  runAtMs: number
  dueAtMs: number
  attempt: number
  losses: number
  claims: number
  lease: string | undefined
}

/** A task of an enqueue; what it leaves out is common to all. */
interface GivenTask {
  readonly id: string
  readonly payload: string
  readonly queue?: string
  readonly job?: string
  readonly priority?: number
  readonly maxAttempts?: number
  readonly delayMs?: number
  readonly runAt?: string | null | undefined
}

interface StoredQueue {
  wokenAtMs: number
  lingersUntilMs: number
}

const minuteMs = 60_000
const marginMs = alarmMarginSeconds * 1000

export function memoryDatabase(clock: { readonly epochMs: number }): Database {
  /** In the order of run_at: what is ready, and behind it what is later. */
  const due: StoredTask[] = []
  const byId = new Map<string, StoredTask>()
  const queues = new Map<string, StoredQueue>()
  let armedAtMs = -Infinity
  /** The test clock of PostgreSQL has no fractions either. */
  const nowMs = () => Math.floor(clock.epochMs)

  function insert(task: StoredTask): void {
    due.splice(firstAfter(due, task.runAtMs), 0, task)
    byId.set(task.id, task)
  }
  function remove(task: StoredTask): void {
    let place = firstAfter(due, task.runAtMs - 1)
    while (due[place] !== task) place++
    due.splice(place, 1)
    byId.delete(task.id)
  }
  function move(task: StoredTask, runAtMs: number): void {
    remove(task)
    task.runAtMs = runAtMs
    insert(task)
  }

  /** izta.enqueue_task_1: one task. */
  function enqueueTask(given: Arguments): Row[] {
    const task = { id: given['p_id'] ?? '', payload: given['p_payload'] ?? '', runAt: given['p_run_at'] }
    return [{ reply: enqueue([task], given) }]
  }

  /** izta.enqueue_1: several tasks, with what they have in common. */
  function enqueueTasks(given: Arguments): Row[] {
    const tasks = JSON.parse(given['p_tasks'] ?? '[]') as GivenTask[]
    return [{ reply: enqueue(tasks, given) }]
  }

  function enqueue(tasks: readonly GivenTask[], common: Arguments): string | null {
    const now = nowMs()
    const names = new Set<string>()
    const dueNames = new Set<string>()
    let laterMs = Infinity
    for (const task of tasks) {
      const queue = task.queue ?? common['p_queue'] ?? ''
      const delayMs = task.delayMs ?? Number(common['p_delay_ms'])
      const runAtMs = task.runAt ? Date.parse(task.runAt) : now + delayMs
      insert({
        id: task.id,
        queue,
        job: task.job ?? common['p_job'] ?? '',
        payload: task.payload,
        priority: String(task.priority ?? common['p_priority']),
        maxAttempts: String(task.maxAttempts ?? common['p_max_attempts']),
        createdMs: now,
        runAtMs,
        dueAtMs: runAtMs,
        attempt: 0,
        losses: 0,
        claims: 0,
        lease: undefined,
      })
      names.add(queue)
      if (runAtMs <= now) dueNames.add(queue)
      else laterMs = Math.min(laterMs, runAtMs)
    }
    if (common['p_wake'] === 'false') return null
    const wake = wakeQueues(names, dueNames)
    const latest = Math.max(floorTo(laterMs), floorTo(now + marginMs) + minuteMs)
    const isArmed = armedAtMs > now + marginMs && armedAtMs <= latest
    const later = laterMs < Infinity && !isArmed ? laterMs : undefined
    return wake.length === 0 && later === undefined ? null : JSON.stringify({ wake, laterMs: later })
  }

  /** izta.wake_queues_1: which of the queues with due tasks want a runner. */
  function wakeQueues(names: ReadonlySet<string>, dueNames: ReadonlySet<string>): string[] {
    const now = nowMs()
    const isOld = (queue: StoredQueue | undefined) =>
      queue === undefined || Math.abs(queue.wokenAtMs - now) > 1000
    const wanted = [...dueNames].filter((name) => isOld(queues.get(name)))
    for (const name of names) queueNamed(name)
    for (const name of wanted) queueNamed(name).wokenAtMs = now
    return wanted
  }

  function queueNamed(name: string): StoredQueue {
    const queue = queues.get(name) ?? { wokenAtMs: -Infinity, lingersUntilMs: -Infinity }
    queues.set(name, queue)
    return queue
  }

  /** Whether no other runner waits for the task already. */
  function isUnattended({ queue, lease, runAtMs }: StoredTask): boolean {
    const lingersUntilMs = queues.get(queue)?.lingersUntilMs ?? -Infinity
    return lease === undefined && (lingersUntilMs <= nowMs() || lingersUntilMs > runAtMs)
  }

  function turn(given: Arguments): Row[] {
    const now = nowMs()
    const lease = given['p_lease'] ?? ''
    const ids = arrayOf(given['p_ids'])
    const [claims, kinds, delays] = [
      arrayOf(given['p_claims']),
      arrayOf(given['p_kinds']),
      arrayOf(given['p_delays_ms']),
    ]
    const rows: Row[] = []
    for (const [index, id] of ids.entries()) {
      const task = byId.get(id ?? '')
      if (task === undefined || task.lease !== lease || String(task.claims) !== claims[index]) {
        rows.push({ kind: 'unsettled', id })
        continue
      }
      const kind = kinds[index] ?? ''
      if (['finish', 'fail', 'drop', 'cancel'].includes(kind)) {
        remove(task)
        continue
      }
      task.lease = undefined
      if (kind.startsWith('retry')) task.attempt++
      if (kind !== 'release') task.dueAtMs = now + Number(delays[index])
      move(task, task.dueAtMs)
    }
    const limit = Number(given['p_limit'])
    if (limit === 0) return rows
    const claimed = due.slice(0, Math.min(limit, firstAfter(due, now)))
    for (const task of claimed) {
      const isLost = task.lease !== undefined
      if (isLost) task.losses++
      task.lease = lease
      task.claims++
      move(task, now + Number(given['p_lease_ms']))
      rows.push(claimedRow(task, isLost, now))
    }
    if (claimed.length > 0) return rows
    for (const queue of queues.values()) queue.wokenAtMs = -Infinity
    const { p_linger_ms: lingerMs = null } = given
    const awaited = lingerMs === null ? undefined : linger(Number(lingerMs))
    return awaited === undefined ? rows : [...rows, awaited]
  }

  /** izta.linger_1: the task that the runner waits for. */
  function linger(withinMs: number): Row | undefined {
    const now = nowMs()
    const task = due.find((one) => one.runAtMs > now && isUnattended(one))
    if (task === undefined || task.runAtMs > now + withinMs) return undefined
    queueNamed(task.queue).lingersUntilMs = task.runAtMs
    return { kind: 'wait', queue: task.queue, waited_ms: String(Math.max(1, task.runAtMs - now)) }
  }

  /** izta.tick_queues_1. */
  function wakeDue(aheadSeconds: number): Row[] {
    const now = nowMs()
    const ready = due.slice(0, firstAfter(due, now))
    const waiting = new Set(ready.map(({ queue }) => queue))
    const isSoon = (task: StoredTask) => task.runAtMs <= now + aheadSeconds * 1000 && isUnattended(task)
    const soon = due.slice(ready.length).filter(isSoon)
    const wanting = new Set([...waiting, ...soon.map(({ queue }) => queue)])
    const wanted = new Set(wakeQueues(wanting, wanting))
    return [...new Set([...waiting, ...wanted])].map((name) => {
      const ofQueue = ready.filter(({ queue }) => queue === name)
      return {
        name,
        paused: 'f',
        due: String(ofQueue.length),
        oldest_due_ms: String(now - (ofQueue[0]?.runAtMs ?? now)),
        wake: wanted.has(name) ? 't' : 'f',
      }
    })
  }

  function nextAlarm(): Row[] {
    const now = nowMs()
    const overdue = due[0] !== undefined && due[0].runAtMs <= now ? due[0] : undefined
    const later = due[firstAfter(due, now)]
    return [
      {
        now_ms: String(now),
        overdue_ms: overdue === undefined ? null : String(overdue.runAtMs),
        later_ms: later === undefined ? null : String(later.runAtMs),
        armed_ms: armedAtMs === -Infinity ? null : String(armedAtMs),
      },
    ]
  }

  function record(atMs: number): Row[] {
    if (armedAtMs <= nowMs() + marginMs || armedAtMs > atMs) armedAtMs = atMs
    return []
  }

  const answers = new Map<string, (statement: SqlText) => Row[]>([
    [nextAlarmStatement.text, nextAlarm],
    [recordAlarmStatement(new Date(0)).text, ({ values }) => record(Date.parse(values[0] ?? ''))],
    [pruneStatement(0).text, () => [{ pruned: '0' }]],
    [toPlanStatement(0, '', '').text, () => []],
    [wakeDueStatement(0).text, ({ values }) => wakeDue(Number(values[0]))],
    [
      registerQueuesStatement([]).text,
      ({ values }) => {
        for (const name of arrayOf(values[0])) if (name !== null) queueNamed(name)
        return []
      },
    ],
  ])
  const calls: Record<string, (given: Arguments) => Row[]> = {
    enqueue_task_1: enqueueTask,
    enqueue_1: enqueueTasks,
    turn_1: turn,
  }

  return {
    async query(statement) {
      const answer = answers.get(statement.text)
      if (answer !== undefined) return answer(statement)
      const [, name = ''] = /\bizta\.(\w+)\(/.exec(statement.text) ?? []
      const call = calls[name]
      if (call === undefined) throw new Error(`the simulation knows no answer to: ${statement.text}`)
      return call(argumentsOf(statement))
    },
  }
}

const floorTo = (ms: number) => Math.floor(ms / minuteMs) * minuteMs

/** The place of the first task that is due after the instant. */
function firstAfter(tasks: readonly StoredTask[], ms: number): number {
  let low = 0
  let high = tasks.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((tasks[middle]?.runAtMs ?? Infinity) <= ms) low = middle + 1
    else high = middle
  }
  return low
}

function claimedRow(task: StoredTask, isLost: boolean, atMs: number): Row {
  return {
    kind: 'claimed',
    id: task.id,
    queue: task.queue,
    job: task.job,
    payload: task.payload,
    priority: task.priority,
    attempt: String(task.attempt),
    max_attempts: task.maxAttempts,
    losses: String(task.losses),
    claims: String(task.claims),
    created_ms: String(task.createdMs),
    due_ms: String(task.dueAtMs),
    waited_ms: String(atMs - task.dueAtMs),
    key: null,
    parent: null,
    schedule: null,
    slot_ms: null,
    trace: null,
    cancel: 'f',
    skip_overlap: 'f',
    lost: isLost ? 't' : 'f',
  }
}

type Arguments = Readonly<Record<string, string | null>>

/** The arguments of a call by name, as its text has them: name => $1::type, or name => value. */
function argumentsOf({ text, values }: SqlText): Arguments {
  const named = text.matchAll(/\b(p_\w+) => (?:\$(\d+)|(\w+))/g)
  return Object.fromEntries(
    [...named].map(([, name = '', place, word]) => [
      name,
      place === undefined ? wordOf(word) : (values[Number(place) - 1] ?? null),
    ]),
  )
}

const wordOf = (word = 'null') => (word === 'null' ? null : word)

/** An array literal as the store writes them. */
function arrayOf(literal: string | null | undefined): (string | null)[] {
  const elements: (string | null)[] = []
  const element = /"((?:[^"\\]|\\.)*)"|([^,{}"]+)/g
  for (const [, quoted, plain] of (literal ?? '').matchAll(element)) {
    if (quoted !== undefined) elements.push(quoted.replaceAll(/\\(.)/g, '$1'))
    else elements.push(plain === 'NULL' ? null : (plain ?? null))
  }
  return elements
}
