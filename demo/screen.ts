// What the demo shows: in a terminal live bars and colours, elsewhere plain lines and few of them.
import cliProgress, { type Bar, type MultiBar, type Params } from 'cli-progress'
import Table from 'cli-table3'
import picocolors from 'picocolors'
import type { StatusCounts } from '../src/index.ts'

export interface Progress {
  /** A bar for each; the first is the measure of the whole. */
  readonly lanes: readonly { readonly name: string; readonly ended: number; readonly total: number }[]
  readonly counts: StatusCounts
  readonly tasksPerSecond: number
  /** What one waits for, when it is not the work itself. */
  readonly note: string
}

interface ProgressView {
  /** Prints a line, above the bars while they are shown. */
  print(line: string): void
  show(progress: Progress): void
  /** Leaves the last state on the screen. */
  end(): void
}

type Colors = ReturnType<typeof picocolors.createColors>

export interface Screen extends ProgressView {
  readonly colors: Colors
  /** Columns that a line may have; a file has no end of them. */
  readonly width: number
  /** Says what has happened. */
  step(text: string): void
  /** The first column is text, the others are numbers; the last row is the sum of the others if `hasSum`. */
  table(head: readonly string[], rows: readonly (readonly string[])[], hasSum?: boolean): void
}

export function createScreen(stream: NodeJS.WriteStream = process.stdout): Screen {
  // picocolors would colour the logs of CI services as well; what is not a terminal stays plain.
  const isTerminal = Boolean(stream.isTTY)
  const colors = picocolors.createColors(isTerminal && picocolors.isColorSupported)
  const isLive = isTerminal && process.env['TERM'] !== 'dumb'
  const view = isLive ? createBars(stream, colors) : createPlainLines(stream, colors)
  return {
    ...view,
    colors,
    width: isTerminal ? stream.columns : Infinity,
    step: (text) => view.print(`${colors.green('✔')} ${text}`),
    table(head, rows, hasSum = false) {
      const sum = hasSum ? rows.length - 1 : undefined
      const styled = rows.map((row, index) => (index === sum ? row.map(colors.bold) : [...row]))
      view.print(formatTable(head.map(colors.dim), styled))
    },
  }
}

type Payload = { readonly lane: string } | { readonly line: string }

/** A bar for each lane, and under them a line of counts and one for the note. */
function createBars(stream: NodeJS.WriteStream, colors: Colors): ProgressView {
  let bars: MultiBar<Payload> | undefined
  let lanes: Bar<Payload>[] = []
  let lines: Bar<Payload>[] = []
  let last: Progress | undefined

  const write = (line: string) => void stream.write(`${line}\n`)
  const linesOf = (progress: Progress) => [describe(progress, colors), colors.yellow(progress.note)]

  function drawBar(name: string, ended: number, total: number): string {
    const share = total === 0 ? 0 : ended / total
    const cells = Math.max(10, Math.min(60, stream.columns - 34))
    const filled = Math.floor(cells * share)
    const bar = colors.green('━'.repeat(filled)) + colors.dim('─'.repeat(cells - filled))
    const percent = `${Math.floor(100 * share)} %`
    return `  ${name.padEnd(14)}${bar}${percent.padStart(6)} ${colors.dim(`${ended}/${total}`)}`
  }

  const format = (_: unknown, { value, total }: Params, payload: Payload) =>
    'line' in payload ? `  ${payload.line}` : drawBar(payload.lane, value, total)

  return {
    print(line) {
      if (bars === undefined) write(line)
      else bars.log(`${line}\n`)
    },
    show(progress) {
      last = progress
      const texts = linesOf(progress)
      if (bars === undefined) {
        write('')
        const options = { hideCursor: true, forceRedraw: true, clearOnComplete: true }
        const shown = new cliProgress.MultiBar<Payload>({ stream, format, ...options })
        lanes = progress.lanes.map(({ name }) => shown.create(1, 0, { lane: name }))
        lines = texts.map((line) => shown.create(1, 0, { line }))
        bars = shown
      }
      for (const [index, { ended, total }] of progress.lanes.entries()) {
        lanes[index]?.setTotal(total)
        lanes[index]?.update(ended)
      }
      for (const [index, line] of texts.entries()) lines[index]?.update(0, { line })
    },
    end() {
      // Draws what was printed last; the bars themselves are cleared, since the final ones would be cut too short.
      bars?.update()
      bars?.stop()
      bars = undefined
      if (last === undefined) return
      for (const { name, ended, total } of last.lanes) write(drawBar(name, ended, total))
      write(`  ${describe(last, colors)}`)
    },
  }
}

/** A line for each quarter of the way, and one for the first note. */
function createPlainLines(stream: NodeJS.WriteStream, colors: Colors): ProgressView {
  let quarters = 0
  let hasNoted = false
  return {
    print: (line) => void stream.write(`${line}\n`),
    show(progress) {
      if (progress.note !== '' && !hasNoted) {
        hasNoted = true
        stream.write(`  ${progress.note}\n`)
      }
      const ended = progress.lanes.reduce((sum, lane) => sum + lane.ended, 0)
      const total = progress.lanes.reduce((sum, lane) => sum + lane.total, 0)
      const reached = total === 0 ? 0 : Math.floor((4 * ended) / total)
      if (reached <= quarters) return
      quarters = reached
      const lanes = progress.lanes.map((lane) => `${lane.name} ${lane.ended}/${lane.total}`)
      stream.write(`  ${lanes.join(', ')} · ${describe(progress, colors)}\n`)
    },
    end: () => {},
  }
}

function describe({ counts, tasksPerSecond }: Progress, colors: Colors): string {
  const count = (status: keyof StatusCounts, color = String as (text: string) => string) =>
    (counts[status] === 0 ? colors.dim : color)(`${counts[status]} ${status}`)
  return [
    `${Math.round(tasksPerSecond)} tasks/s`,
    count('pending'),
    count('running', colors.cyan),
    count('failing', colors.yellow),
    count('finished', colors.green),
    count('failed', colors.red),
  ].join(colors.dim(' · '))
}

const sides = ['top', 'bottom', 'left', 'right']
const corners = ['', '-mid', '-left', '-right']
const noBorders = Object.fromEntries(
  [...sides.flatMap((side) => corners.map((corner) => side + corner)), 'mid', 'mid-mid', 'middle'].map(
    (name) => [name, ''],
  ),
)

function formatTable(head: string[], rows: string[][]): string {
  const table = new Table({
    head,
    colAligns: head.map((_, index) => (index === 0 ? 'left' : 'right')),
    chars: noBorders,
    style: { head: [], border: [], 'padding-left': 2, 'padding-right': 1 },
  })
  table.push(...rows)
  // Padding would end each line in blanks.
  return table.toString().replaceAll(/ +$/gm, '')
}
