// Log lines for people: one a line, coloured on a terminal.
import pc from 'picocolors'
import type { Izta } from '../client/izta.ts'
import type { Logger } from '../log.ts'
import { showValue } from '../options.ts'

export interface DevLog {
  readonly logger: Logger
  /** Prints what becomes of tasks; failures stand in the log already. */
  follow(izta: Izta, nameOf: (jobId: string) => string): void
}

type Colour = 'green' | 'yellow' | 'red' | 'cyan' | 'dim'

export function createDevLog(output: NodeJS.WriteStream): DevLog {
  const colours = pc.createColors(output.isTTY && pc.isColorSupported)
  const print = (colour: Colour, word: string, text: string) => {
    const time = new Date().toTimeString().slice(0, 8)
    output.write(`${colours.dim(time)} ${colours[colour](word.padEnd(9))} ${text}\n`)
  }
  const write =
    (colour: Colour, word: string) =>
    (message: string, facts: Record<string, unknown> = {}) => {
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
    follow(izta, nameOf) {
      const task = ({ job, taskId }: { job: string; taskId: string }) =>
        `${nameOf(job)} ${colours.dim(taskId)}`
      izta.on('task.started', (event) => print('cyan', 'started', `${task(event)} attempt ${event.attempt}`))
      izta.on('task.finished', (event) =>
        print('green', 'finished', `${task(event)} in ${Math.round(event.durationMs)} ms`),
      )
      izta.on('task.cancelled', (event) => print('yellow', 'cancelled', task(event)))
      izta.on('task.released', (event) => print('yellow', 'released', task(event)))
      izta.on('schedule.planned', ({ tasks }) =>
        print('cyan', 'planned', `${tasks} ${tasks === 1 ? 'task' : 'tasks'} of schedules`),
      )
    },
  }
}

const showFact = (value: unknown) => (typeof value === 'string' ? value : showValue(value))
