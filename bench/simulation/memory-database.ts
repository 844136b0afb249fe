// The statements that a day of the policy sends, answered from memory: one queue, one priority, no failures. What
// they mean is decided by the SQL; `--validate` of the simulation replays a trace against both and compares.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Database, Row, Statement } from '../../src/db/database.ts'
import {
  alarmMarginSeconds,
  lastLookStatement,
  nextAlarmStatement,
  recordAlarmStatement,
} from '../../src/store/due.ts'
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

interface StoredQueue {
  wokenAtMs: number
  lingersUntilMs: number
}

const minuteMs = 60_000
const marginMs = alarmMarginSeconds * 1000

export function memoryDatabase(clock: { readonly epochMs: number }): Database {
  /** In the order of run_at: the index task_due. */
  const due: StoredTask[] = []
  const byId = new Map<string, StoredTask>()
  const queues = new Map<string, StoredQueue>()
  let armedAtMs = -Infinity

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

  function enqueue(given: Arguments): Row[] {
    const now = clock.epochMs
    const ids = arrayOf(given['p_ids'])
    const column = (name: string) => columnOf(given[name], ids.length)
    const [jobs, names] = [column('p_jobs'), column('p_queues')]
    const [payloads, priorities, attempts] = [
      column('p_payloads'),
      column('p_priorities'),
      column('p_max_attempts'),
    ]
    const [delays, instants] = [column('p_delays_ms'), arrayOf(given['p_run_at'])]
    const dueQueues = new Set<string>()
    let laterMs = Infinity
    for (const [index, id] of ids.entries()) {
      const queue = names[index] ?? ''
      const runAt = instants[index]
      const runAtMs = runAt === null || runAt === undefined ? now + Number(delays[index]) : Date.parse(runAt)
      insert({
        id: id ?? '',
        queue,
        job: jobs[index] ?? '',
        payload: payloads[index] ?? '',
        priority: priorities[index] ?? '',
        maxAttempts: attempts[index] ?? '',
        createdMs: now,
        runAtMs,
        dueAtMs: runAtMs,
        attempt: 0,
        losses: 0,
        claims: 0,
        lease: undefined,
      })
      if (runAtMs <= now) dueQueues.add(queue)
      else laterMs = Math.min(laterMs, runAtMs)
    }
    const answer: Row = { refused: null, wake: null, later_ms: null }
    if (given['p_wake'] !== 'true') return [answer]
    const stale = [...dueQueues].filter((name) => {
      const queue = queues.get(name)
      return queue === undefined || queue.wokenAtMs < now - 1000
    })
    if (stale.length > 0) answer['wake'] = JSON.stringify(stale)
    for (const name of names) {
      if (name === null) continue
      const queue = queues.get(name)
      if (queue === undefined) {
        queues.set(name, { wokenAtMs: dueQueues.has(name) ? now : -Infinity, lingersUntilMs: -Infinity })
      } else if (stale.includes(name)) queue.wokenAtMs = now
    }
    const latest = Math.max(floorTo(laterMs), floorTo(now + marginMs) + minuteMs)
    if (laterMs < Infinity && !(armedAtMs > now + marginMs && armedAtMs <= latest)) {
      answer['later_ms'] = String(laterMs)
    }
    return [answer]
  }

  function turn(given: Arguments): Row[] {
    const now = clock.epochMs
    const lease = given['p_lease'] ?? ''
    const ids = arrayOf(given['p_ids'])
    const [claims, kinds] = [columnOf(given['p_claims'], ids.length), columnOf(given['p_kinds'], ids.length)]
    const delays = arrayOf(given['p_delays_ms'])
    const rows: Row[] = []
    for (const [index, id] of ids.entries()) {
      const task = byId.get(id ?? '')
      if (task === undefined || task.lease !== lease || String(task.claims) !== claims[index]) {
        rows.push({ row: 'unsettled', id })
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
      if (task.lease !== undefined) task.losses++
      task.lease = lease
      task.claims++
      move(task, now + Number(given['p_lease_ms']))
      rows.push(claimedRow(task, now))
    }
    if (claimed.length === 0) for (const queue of queues.values()) queue.wokenAtMs = -Infinity
    return rows
  }

  function lastLook(withinMs: number): Row[] {
    const now = clock.epochMs
    if (due[0] !== undefined && due[0].runAtMs <= now) return [{ now_ms: String(now), due_ms: null }]
    const soon = due.find(({ lease }) => lease === undefined)
    const queue = soon && queues.get(soon.queue)
    if (soon === undefined || queue === undefined || soon.runAtMs > now + withinMs) return []
    if (!(queue.lingersUntilMs <= now || queue.lingersUntilMs > soon.runAtMs)) return []
    queue.lingersUntilMs = soon.runAtMs
    return [{ now_ms: String(now), due_ms: String(soon.runAtMs) }]
  }

  function wakeDue(aheadSeconds: number): Row[] {
    const now = clock.epochMs
    const rows: Row[] = []
    for (const [name, queue] of queues) {
      const first = due.find((task) => task.runAtMs <= now || task.lease === undefined)
      const wants =
        queue.wokenAtMs < now - 1000 &&
        first !== undefined &&
        first.runAtMs <= now + aheadSeconds * 1000 &&
        (first.runAtMs <= now || queue.lingersUntilMs <= now || queue.lingersUntilMs > first.runAtMs)
      const waiting = firstAfter(due, now)
      if (wants) queue.wokenAtMs = now
      if (!wants && waiting === 0) continue
      const oldestMs = waiting === 0 ? 0 : now - (due[0]?.runAtMs ?? now)
      rows.push({
        name,
        paused: 'f',
        due: String(waiting),
        oldest_due_ms: String(oldestMs),
        wake: wants ? 't' : 'f',
      })
    }
    return rows
  }

  function nextAlarm(): Row[] {
    const now = clock.epochMs
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
    if (armedAtMs <= clock.epochMs + marginMs || armedAtMs > atMs) armedAtMs = atMs
    return []
  }

  const answers = new Map<string, (statement: Statement) => Row[]>([
    [lastLookStatement([], 0).text, ({ values }) => lastLook(Number(values[1]))],
    [nextAlarmStatement.text, nextAlarm],
    [recordAlarmStatement(new Date(0)).text, ({ values }) => record(Date.parse(values[0] ?? ''))],
    [pruneStatement(0).text, () => [{ pruned: '0' }]],
    [toPlanStatement(0, '').text, () => []],
    [wakeDueStatement(0).text, ({ values }) => wakeDue(Number(values[0]))],
    [
      registerQueuesStatement([]).text,
      ({ values }) => {
        for (const name of [...arrayOf(values[0] ?? null), ...due.map(({ queue }) => queue)]) {
          if (name !== null && !queues.has(name)) {
            queues.set(name, { wokenAtMs: -Infinity, lingersUntilMs: -Infinity })
          }
        }
        return []
      },
    ],
  ])
  const calls: Record<string, (given: Arguments) => Row[]> = { enqueue_1: enqueue, turn_1: turn }

  return {
    async query(statement) {
      const answer = answers.get(statement.text)
      if (answer !== undefined) return answer(statement)
      const [, name = ''] = /\bizta\.(\w+)\(/.exec(statement.text) ?? []
      const call = calls[name]
      if (call === undefined) throw new Error(`the simulation knows no answer to: ${statement.text}`)
      return call(argumentsOf(name, statement))
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

function claimedRow(task: StoredTask, nowMs: number): Row {
  return {
    row: null,
    id: task.id,
    queue: task.queue,
    job: task.job,
    key: null,
    payload: task.payload,
    priority: task.priority,
    attempt: String(task.attempt),
    max_attempts: task.maxAttempts,
    losses: String(task.losses),
    claims: String(task.claims),
    cancel: 'f',
    skip_overlap: 'f',
    parent: null,
    schedule: null,
    slot_ms: null,
    created_ms: String(task.createdMs),
    due_ms: String(task.dueAtMs),
    waited_ms: String(nowMs - task.dueAtMs),
    trace: null,
  }
}

type Arguments = Record<string, string | null>

const migrations = ['0003_create_turn.sql', '0005_create_enqueue.sql']
  .map((name) => readFileSync(join(import.meta.dirname, '..', '..', 'migrations', name), 'utf8'))
  .join('\n')
const parameterNames = new Map<string, string[]>()

/** The arguments of a call by the names that the function's definition gives them. */
function argumentsOf(name: string, { text, values }: Statement): Arguments {
  const names = parameterNames.get(name) ?? parametersOf(name)
  parameterNames.set(name, names)
  const [, list = ''] = new RegExp(`izta\\.${name}\\(([^)]*)\\)`).exec(text) ?? []
  return Object.fromEntries(
    list.split(',').map((argument, index) => {
      const [, place] = /\$(\d+)/.exec(argument) ?? []
      return [names[index] ?? '', place === undefined ? argument.trim() : (values[Number(place) - 1] ?? null)]
    }),
  )
}

function parametersOf(name: string): string[] {
  const [, list] = new RegExp(`create function izta\\.${name}\\(([^)]*)\\)`).exec(migrations) ?? []
  if (list === undefined) throw new Error(`no migration creates izta.${name}`)
  return list.split(',').map((parameter) => parameter.trim().split(' ')[0] ?? '')
}

/** A column in which the first element stands for those that are missing. */
function columnOf(literal: string | null | undefined, length: number): (string | null)[] {
  const elements = arrayOf(literal)
  return Array.from({ length }, (_, index) => elements[index] ?? elements[0] ?? null)
}

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
