// Log lines for people: one a line, coloured on a terminal.
import { pathToFileURL } from 'node:url'
import pc from 'picocolors'
import type { Izta } from '../client/izta.ts'
import type { AnyJob } from '../job/job.ts'
import type { Logger } from '../observe/log.ts'
import { showValue } from '../options.ts'
import type { IztaEvents } from '../observe/events.ts'
import { framesOfUser } from './load-error.ts'

export interface DevLog {
  readonly logger: Logger
  /** Prints what becomes of tasks. */
  follow(izta: Izta, jobs: Jobs): void
}

/** Log lines that say what `follow` prints better. */
const toldByTasks = new Set(['a runner leaves', 'attempt failed', 'task failed'])

type FailureEvent = IztaEvents['task.failed']

type Colour = 'green' | 'yellow' | 'red' | 'cyan' | 'dim'

export function createDevLog(output: NodeJS.WriteStream): DevLog {
  // Not a terminal is `undefined`, which picocolors would take for its own choice: colours wherever CI is set.
  const colours = pc.createColors(Boolean(output.isTTY) && pc.isColorSupported)
  const print = (colour: Colour, word: string, text: string) => {
    const time = new Date().toTimeString().slice(0, 8)
    output.write(`${colours.dim(time)} ${colours[colour](word.padEnd(9))} ${text}\n`)
  }
  const write =
    (colour: Colour, word: string) =>
    (message: string, facts: Record<string, unknown> = {}) => {
      if (toldByTasks.has(message)) return
      const shown = Object.entries(facts).map(([name, value]) => `${name}=${showFact(value)}`)
      print(colour, word, [message, ...shown.map((fact) => colours.dim(fact))].join(' '))
    }
  return {
    logger: {
      debug() {},
      info: write('dim', 'info'),
      warn: write('yellow', 'warn'),
      error: write('red', 'error'),
    },
    follow(izta, jobs) {
      const nameOf = (id: string) => jobs.get(id)?.name ?? id
      const task = ({ job, taskId }: { job: string; taskId: string }) =>
        `${nameOf(job)} ${colours.dim(taskId)}`
      const failure = async (event: FailureEvent, colour: Colour, word: string, then = '') => {
        const stack = await stackOf(izta, jobs, event)
        // Ids of one minute begin alike: what tells them apart is the end.
        const id = colours.dim(event.taskId.slice(-8))
        const why = event.message === '' ? event.code : event.message
        const frames = framesOfUser(stack).map((frame) => colours.dim(`\n${margin}${shortPlace(frame)}`))
        print(
          colour,
          word,
          `${nameOf(event.job)} ${id} attempt ${event.attempt}: ${why}${then}${frames.join('')}`,
        )
      }
      izta.on('task.started', (event) => print('cyan', 'started', `${task(event)} attempt ${event.attempt}`))
      izta.on('task.finished', (event) =>
        print('green', 'finished', `${task(event)} in ${Math.round(event.durationMs)} ms`),
      )
      izta.on('task.retried', (event) => {
        const again = `; again in ${Math.round(event.delayMs / 100) / 10} s`
        void failure(event, 'yellow', 'failing', again)
      })
      izta.on('task.failed', (event) => void failure(event, 'red', 'failed'))
      izta.on('task.cancelled', (event) => print('yellow', 'cancelled', task(event)))
      izta.on('task.released', (event) => print('yellow', 'released', task(event)))
      izta.on('schedule.planned', ({ tasks }) =>
        print('cyan', 'planned', `${tasks} ${tasks === 1 ? 'task' : 'tasks'} of schedules`),
      )
    },
  }
}

type Jobs = ReadonlyMap<string, AnyJob>

/** The stack is in no event: it is read back with the task. */
async function stackOf(izta: Izta, jobs: Jobs, { job, taskId, attempt }: FailureEvent): Promise<string> {
  const definition = jobs.get(job)
  if (definition === undefined) return ''
  try {
    const task = await izta.get(definition, taskId)
    return task?.errors.findLast((error) => error.attempt === attempt)?.stack ?? ''
  } catch {
    // The database is gone or going; the line itself is worth more than its frames.
    return ''
  }
}

/** Below the text of a line. */
const margin = ' '.repeat(21)

/** Relative to the folder of the command, as an editor's terminal opens it. */
const shortPlace = (frame: string) => frame.replace(pathToFileURL(`${process.cwd()}/`).href, '')

/** Bare where it is one word. */
function showFact(value: unknown): string {
  if (typeof value !== 'string') return showValue(value)
  return /^[^\s"]+$/.test(value) ? value : JSON.stringify(value)
}
