// What the docs promise of tasks, in memory: the state after each call, and what the call answers.

/** What a handler does in one of its runs. */
export interface RunSpec {
  readonly ends: 'finish' | 'throw' | 'fail' | 'fail for good' | 'fail for a while'
  /** Enqueued by `ctx.enqueue`. */
  readonly children: readonly TaskSpec[]
  /** The run cancels its own task first. */
  readonly cancels: boolean
}

export interface TaskSpec {
  readonly job: 'plain' | 'brief' | 'bare'
  readonly queue: string
  readonly priority: number
  readonly maxAttempts: number
  readonly id?: string
  readonly key?: string
  readonly keyUntil?: 'finished' | 'started'
  readonly delaySeconds?: number
  /** From the clock's instant. */
  readonly runAtSeconds?: number
  /** What its runs do in turn; after the last they finish. */
  readonly runs: readonly RunSpec[]
}

export type Status = 'pending' | 'running' | 'failing' | 'finished' | 'failed' | 'cancelled'

export interface ModelTask {
  readonly spec: TaskSpec
  /** Told apart by it while the id is not known: a child's is made by the client. */
  readonly tag: string
  readonly parent: string | undefined
  readonly enqueuedAt: number
  id: string | undefined
  status: Status
  /** Also of those before a retry by API. */
  runs: number
  attempt: number
  dueAt: number
  errors: string[]
  holdsKey: boolean
  cancelling: boolean
  finishedAt: number | undefined
  expiresAt: number | undefined
}

export interface ModelQueue {
  readonly paused: boolean
  /** At the latest; the row may have been used since. */
  readonly usedAt: number
  /** Its row was unused for a day, and then came a tick. */
  readonly mayBeGone: boolean
}

/** `days` of retention; a bare row of a finished task stays a day. */
export const jobFacts = {
  plain: { finishedDays: 7, failedDays: 30, keepsResult: false },
  brief: { finishedDays: 1, failedDays: 2, keepsResult: true },
  bare: { finishedDays: 1, failedDays: 30, keepsResult: false },
} as const
export const retryAfterSeconds = 100
const dayMs = 86_400_000

type Child = Pick<ModelTask, 'spec' | 'tag' | 'parent'>
const keyOf = ({ job, key }: TaskSpec) => `${job} ${key}`
const isWaiting = ({ status }: ModelTask) => status === 'pending' || status === 'failing'
export const isEnded = ({ status }: ModelTask) =>
  status === 'finished' || status === 'failed' || status === 'cancelled'
export const isBare = ({ spec, status }: ModelTask) => spec.job === 'bare' && status === 'finished'

export class Model {
  tasks: ModelTask[] = []
  /** By name; a queue that is not here is not paused. */
  readonly queues = new Map<string, ModelQueue>()
  now: number
  /** What the last settle has made due: a claim that was on its way already may not have seen it. */
  #fresh = new Set<ModelTask>()
  /**
   * Parents of keyed children are settled beside the turns. Until the drain is over, this is what they have made due,
   * the children that may or may not have found their key free, and the keys that were freed.
   */
  #beside = { due: new Set<ModelTask>(), children: [] as Child[], keys: new Set<string>() }

  constructor(now: number) {
    this.now = now
  }

  find = (id: string) => this.tasks.find((task) => task.id === id)
  #holder = ({ job, key }: TaskSpec) =>
    key === undefined
      ? undefined
      : this.tasks.find((task) => task.holdsKey && task.spec.job === job && task.spec.key === key)

  /** Identity goes before the key. */
  enqueue(spec: TaskSpec, tag: string, parent?: string): ModelTask | { readonly refusedFor: ModelTask } {
    const known = (spec.id === undefined ? undefined : this.find(spec.id)) ?? this.#holder(spec)
    return known === undefined ? this.#make(spec, tag, parent) : { refusedFor: known }
  }

  #make(spec: TaskSpec, tag: string, parent: string | undefined): ModelTask {
    const task: ModelTask = {
      spec,
      tag,
      parent,
      enqueuedAt: this.now,
      id: spec.id,
      status: 'pending',
      runs: 0,
      attempt: 0,
      dueAt: this.now + (spec.runAtSeconds ?? spec.delaySeconds ?? 0) * 1000,
      errors: [],
      holdsKey: spec.key !== undefined,
      cancelling: false,
      finishedAt: undefined,
      expiresAt: undefined,
    }
    this.tasks.push(task)
    this.useQueue(spec.queue)
    return task
  }

  /** The child of this tag, which turns out to have been made, if that was left open. */
  adopt(tag: string): ModelTask | undefined {
    const { children, due } = this.#beside
    const place = children.findIndex((child) => child.tag === tag)
    const [child] = place === -1 ? [] : children.splice(place, 1)
    if (child === undefined) return undefined
    const task = this.#make(child.spec, tag, child.parent)
    due.add(task)
    return task
  }

  /** Whether nobody can say if a child finds its key free: the holder changes in a call that is on its way as well. */
  #isOpen(spec: TaskSpec): boolean {
    const { children, keys } = this.#beside
    if (keys.has(keyOf(spec)) || children.some((other) => keyOf(other.spec) === keyOf(spec))) return true
    const holder = this.#holder(spec)
    return holder?.spec.keyUntil === 'started' && this.isDue(holder)
  }

  /** Everything is settled: what was left open and did not turn up was not made. */
  drained(): void {
    this.#beside = { due: new Set(), children: [], keys: new Set() }
  }

  cancel(id: string): string {
    const task = this.find(id)
    if (task === undefined) return 'not-found'
    if (isEnded(task)) return `already-${task.status}`
    if (task.status === 'running') {
      task.cancelling = true
      return 'cancelling'
    }
    this.#conclude(task, 'cancelled')
    return 'cancelled'
  }

  retry(id: string, force: boolean): string {
    const task = this.find(id)
    if (task === undefined) return 'task-not-found'
    if (task.status === 'pending' || task.status === 'running') return 'task-unfinished'
    if (task.status === 'failing') {
      task.dueAt = this.now
      this.useQueue(task.spec.queue)
      return 'due-now'
    }
    if (isBare(task)) return 'payload-gone'
    if (task.status === 'finished' && !force) return 'task-finished'
    if (this.#holder(task.spec) !== undefined) return 'key-taken'
    Object.assign(task, {
      status: 'pending',
      attempt: 0,
      dueAt: this.now,
      holdsKey: task.spec.key !== undefined,
    })
    Object.assign(task, { finishedAt: undefined, expiresAt: undefined })
    this.useQueue(task.spec.queue)
    return 'requeued'
  }

  isDue = (task: ModelTask) => isWaiting(task) && task.dueAt <= this.now

  /** What a runner of these queues (none: of all) has to run. */
  due(queues: readonly string[]): ModelTask[] {
    const serves = (queue: string) =>
      this.queues.get(queue)?.paused !== true && (queues.length === 0 || queues.includes(queue))
    return this.tasks.filter((task) => this.isDue(task) && serves(task.spec.queue))
  }

  /** Why it was wrong to start this one now: nothing if it was right. */
  start(task: ModelTask, queues: readonly string[]): string | undefined {
    const due = this.due(queues)
    if (!due.includes(task))
      return `it is ${task.status}, due at ${task.dueAt}, its queue or another is to be run`
    const seen = due.filter((other) => !this.#fresh.has(other) && !this.#beside.due.has(other))
    const { priority, queue } = task.spec
    this.#fresh.clear()
    task.status = 'running'
    task.runs++
    if (task.spec.keyUntil === 'started') task.holdsKey = false
    if (seen.some((other) => other.spec.queue === queue && other.spec.priority < priority))
      return 'another of its queue has a better priority'
    const peers = seen.filter((other) => other.spec.priority === priority && other.spec.queue === queue)
    if (peers.some((other) => other.dueAt < task.dueAt))
      return 'another of its queue and priority was due before'
    return undefined
  }

  /** The run that was started ends as its task's spec says. */
  end(task: ModelTask, run: RunSpec): void {
    const before = new Set(this.tasks.filter(this.isDue))
    const isBeside = run.ends === 'finish' && run.children.some(({ key }) => key !== undefined)
    if (isBeside && task.holdsKey) this.#beside.keys.add(keyOf(task.spec))
    if (run.ends === 'finish') {
      task.attempt++
      this.#conclude(task, 'finished')
      for (const [n, spec] of run.children.entries()) {
        const tag = `${childrenTags(task)}.${n}`
        if (spec.key !== undefined && this.#isOpen(spec)) {
          this.#beside.children.push({ spec, tag, parent: task.id })
        } else this.enqueue(spec, tag, task.id)
      }
    } else if (task.cancelling) {
      this.#conclude(task, 'cancelled')
    } else {
      task.attempt++
      task.errors.push(run.ends === 'throw' ? 'thrown' : 'declared')
      if (run.ends === 'fail for good' || task.attempt >= task.spec.maxAttempts)
        this.#conclude(task, 'failed')
      else {
        const backoffSeconds = 2 ** (task.attempt - 1)
        task.status = 'failing'
        task.dueAt = this.now + (run.ends === 'fail for a while' ? retryAfterSeconds : backoffSeconds) * 1000
      }
    }
    const made = isBeside ? this.#beside.due : this.#fresh
    for (const other of this.tasks) if (this.isDue(other) && !before.has(other)) made.add(other)
  }

  #conclude(task: ModelTask, status: 'finished' | 'failed' | 'cancelled'): void {
    const { finishedDays, failedDays } = jobFacts[task.spec.job]
    const days = status === 'finished' ? finishedDays : failedDays
    Object.assign(task, { status, cancelling: false, holdsKey: false })
    Object.assign(task, { finishedAt: this.now, expiresAt: this.now + days * dayMs })
  }

  /** A queue whose row is there already need not be marked as used: what becomes of it is left open. */
  useQueue(name: string): void {
    const known = this.queues.get(name)
    this.queues.set(name, { paused: false, usedAt: this.now, ...known, mayBeGone: false })
  }

  setQueue(name: string, paused: boolean): void {
    this.queues.set(name, { paused, usedAt: this.now, mayBeGone: false })
  }

  prune(): void {
    for (const [name, queue] of this.queues) {
      if (!queue.paused && queue.usedAt < this.now - dayMs)
        this.queues.set(name, { ...queue, mayBeGone: true })
    }
    this.tasks = this.tasks.filter(({ expiresAt }) => expiresAt === undefined || expiresAt > this.now)
  }
}

/** Others for each run of the parent. */
export const childrenTags = ({ tag, runs }: ModelTask) => `${tag}.${runs}`
