// The child processes of a run: each is started again when it ends.
import { fork, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { ChildSettings } from './child.ts'
import type { Random } from './random.ts'

export interface Processes {
  /** One that is alive and not frozen. */
  any(random: Random): ChildProcess | undefined
  send(message: object): void
  /** Replaces one by a process of the other generation, which starts while the old one ends in order. */
  deploy(random: Random): boolean
  /** Whether invocations wait for triggers, also in processes that start later. */
  setAsleep(asleep: boolean): void
  /** Frozen now; nothing else is done to them. */
  readonly frozen: Set<ChildProcess>
  /** How often one was started anew. */
  readonly restarts: number
  stop(): void
}

export interface ProcessesOptions {
  readonly file: string
  readonly settings: readonly ChildSettings[]
  /** The largest heap, in MB. */
  readonly heapMb: number
  /** Where compiled sources are kept, since processes start by the hundred. */
  readonly cacheFolder: string
  readonly onMessage?: (message: object) => void
  readonly log: (line: string) => void
}

export function startProcesses(options: ProcessesOptions): Processes {
  const { file, settings, heapMb, cacheFolder, onMessage = () => undefined, log } = options
  const alive = new Map<ChildProcess, ChildSettings>()
  const frozen = new Set<ChildProcess>()
  let stopping = false
  let asleep = false
  let restarts = 0

  function start(own: ChildSettings): void {
    const child = fork(new URL(file, import.meta.url), [JSON.stringify({ ...own, asleep })], {
      execArgv: ['--no-warnings', `--max-old-space-size=${heapMb}`],
      env: { ...process.env, NODE_COMPILE_CACHE: cacheFolder },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    alive.set(child, own)
    child.on('error', () => undefined)
    child.on('message', (message) => onMessage(message as object))
    if (child.stderr !== null) {
      createInterface(child.stderr).on('line', (line) => {
        // Of all that Node says when it ends by a mistake of the harness; one that ran out of memory says other things.
        if (/^\w*Error\b/.test(line)) log(`${file} ended: ${line}`)
      })
    }
    child.once('exit', () => {
      frozen.delete(child)
      if (!alive.delete(child) || stopping) return
      restarts++
      start(own)
    })
  }
  for (const own of settings) start(own)

  const any = (random: Random) => random.pick([...alive.keys()].filter((child) => !frozen.has(child)))
  const send = (message: object) => {
    for (const child of alive.keys()) if (child.connected) child.send(message, () => undefined)
  }
  return {
    frozen,
    get restarts() {
      return restarts
    },
    any,
    send,
    deploy(random) {
      const old = any(random)
      const own = old === undefined ? undefined : alive.get(old)
      if (old?.connected !== true || own === undefined) return false
      alive.delete(old)
      start({ ...own, generation: own.generation === 'old' ? 'new' : 'old' })
      old.send({ retire: true }, () => undefined)
      // One that a handler keeps from ending, as any host would in the end.
      const timer = setTimeout(() => old.kill('SIGKILL'), 8000)
      old.once('exit', () => clearTimeout(timer))
      return true
    },
    setAsleep(value) {
      asleep = value
      send({ asleep })
    },
    stop() {
      stopping = true
      for (const child of alive.keys()) child.kill('SIGKILL')
    },
  }
}
