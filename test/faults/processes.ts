// The child processes of a run: each is started again when it ends.
import { fork, type ChildProcess } from 'node:child_process'
import type { ChildSettings } from './child.ts'
import type { Random } from './random.ts'

export interface Processes {
  /** One that is alive and not frozen. */
  any(random: Random): ChildProcess | undefined
  byPid(pid: number): ChildProcess | undefined
  send(message: object): void
  /** Frozen now; nothing else is done to them. */
  readonly frozen: Set<ChildProcess>
  /** How often one was started anew. */
  readonly restarts: number
  stop(): void
}

export function startProcesses(file: string, settings: readonly ChildSettings[]): Processes {
  const alive = new Set<ChildProcess>()
  const frozen = new Set<ChildProcess>()
  let stopping = false
  let restarts = 0

  function start(own: ChildSettings): void {
    const child = fork(new URL(file, import.meta.url), [JSON.stringify(own)], { execArgv: ['--no-warnings'] })
    alive.add(child)
    child.on('error', () => undefined)
    child.once('exit', () => {
      alive.delete(child)
      frozen.delete(child)
      if (stopping) return
      restarts++
      start(own)
    })
  }
  for (const own of settings) start(own)

  return {
    frozen,
    get restarts() {
      return restarts
    },
    any: (random) => random.pick([...alive].filter((child) => !frozen.has(child))),
    byPid: (pid) => [...alive].find((child) => child.pid === pid && !frozen.has(child)),
    send(message) {
      for (const child of alive) if (child.connected) child.send(message, () => undefined)
    },
    stop() {
      stopping = true
      for (const child of alive) child.kill('SIGKILL')
    },
  }
}
