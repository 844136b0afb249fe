// node bench/model.ts [results.json]: writes what a day of 1 k to 1 G tasks needs and costs into
// docs/performance-tables.md, from what the bench has measured and the prices of prices.ts; docs/performance.md explains
// the formulas.
import { join } from 'node:path'
import { writeSection } from './markers.ts'
import { daysPerMonth, prices } from './prices.ts'
import { readResults, type Results } from './results.ts'
import { median } from './row.ts'
import { markdownTable, short } from './table.ts'

/** What is not measured: a kind of work, and how it is run. */
export const workload = {
  /** Mean duration of a handler, waiting for the network most of the time. */
  taskSeconds: 0.5,
  /** Payload and result as stored, beyond the few bytes of the bench's. */
  bodyBytes: 500,
  /** The busiest minutes against the day's mean. */
  peakFactor: 3,
  runnerGb: 0.5,
  /** Of an invocation beside its tasks: claim, last look, leave. */
  overheadSeconds: 0.12,
  /** An invocation of 300 s claims for so long, with tasks of 60 s at the most. */
  invocationSeconds: 235,
  /** One turn of a runner, over the network. */
  turnSeconds: 0.003,
  /** Days that finished tasks are kept. */
  keptDays: 7,
  /** Share of the database's cores that may be busy at the peak. */
  utilisation: 0.6,
} as const

/** What one database, account or network can carry before something must be done. */
const limits = {
  'connections (500 without a pooler)': 500,
  'Lambda concurrency (1,000 of an account)': 1000,
  'database cores (32)': 32,
  'WAL (100 MB/s)': 100,
  'storage (16 TB)': 16_000,
} as const

export interface Inputs {
  /** µs of the database: a task's share of a large turn; one enqueue call; one statement beside its tasks. */
  readonly drainMicros: number
  readonly enqueueMicros: number
  readonly statementMicros: number
  readonly walBytes: number
  readonly storedBytes: number
  readonly statementsPerInvocation: number
  /** Of a task in a runner whose places are all taken, by the number of places. */
  readonly busy: ReadonlyMap<number, { readonly micros: number; readonly statements: number }>
}

/** From the rows of the bench; undefined, with what is missing, when it has not measured all. */
export function inputsOf(results: Results): Inputs | { readonly missing: string[] } {
  const missing: string[] = []
  const value = (measure: string, subject: string, unit: string): number => {
    const found = results.results
      .find((result) => result.measure === measure)
      ?.rows.find((row) => row.subject === subject && row.unit === unit)
    if (found === undefined) missing.push(`${measure}: ${subject}, ${unit}`)
    return found === undefined ? NaN : median(found.values)
  }
  const kept = 'izta, results kept'
  const drainMicros = value('client-cpu', kept, 'µs server CPU/task')
  const statementsPerInvocation = value('small-invocations', 'izta, 20 tasks', 'statements/invocation')
  const invocationMicros = value('small-invocations', 'izta, 20 tasks', 'µs backend CPU/invocation')
  const inputs = {
    drainMicros,
    enqueueMicros: value('enqueue-alone', 'izta, each call alone', 'µs backend CPU/task'),
    statementMicros: Math.max(0, (invocationMicros - 20 * drainMicros) / statementsPerInvocation),
    walBytes: value('rows-and-bytes', kept, 'WAL bytes/task'),
    storedBytes: value('rows-and-bytes', kept, 'bytes on disk/task'),
    statementsPerInvocation,
    busy: new Map(
      busyConcurrencies.map((concurrency) => {
        const subject = `izta, ${busyCase(concurrency)}`
        const micros = value('growth-model', subject, 'µs backend CPU/task')
        return [concurrency, { micros, statements: value('growth-model', subject, 'statements/task') }]
      }),
    ),
  }
  return missing.length > 0 ? { missing } : inputs
}

export interface Growth {
  readonly tasks: number
  readonly concurrency: number
  readonly peakPerSecond: number
  readonly runners: number
  readonly connections: number
  readonly invocations: number
  readonly statements: number
  readonly gbSeconds: number
  readonly cpuMicrosPerTask: number
  readonly peakCores: number
  readonly walGb: number
  readonly peakWalMegabytes: number
  readonly storedGb: number
  readonly lambdaDollars: number
  readonly databaseDollars: number
  readonly bottleneck: string
}

const daySeconds = 86_400

export function grow(tasks: number, concurrency: number, inputs: Inputs): Growth {
  const meanPerSecond = tasks / daySeconds
  const peakPerSecond = meanPerSecond * workload.peakFactor
  const busy = meanPerSecond * workload.taskSeconds
  const runners = Math.max(1, Math.ceil((peakPerSecond * workload.taskSeconds) / concurrency))
  const isLight = busy < 1
  const runnerSeconds =
    (tasks * (workload.taskSeconds + (isLight ? workload.overheadSeconds : 0))) /
    Math.min(concurrency, Math.max(1, busy))
  // An enqueue wakes at most once a second; a runner that works on is followed by its successor.
  const invocations = Math.min(tasks, daySeconds) + runnerSeconds / workload.invocationSeconds
  const gbSeconds = runnerSeconds * workload.runnerGb
  const ticks = daySeconds / 60
  const ofBusy = isLight ? undefined : inputs.busy.get(concurrency)
  // One of an invocation's statements is the turn that settles.
  const starts = Math.min(tasks, daySeconds) * (inputs.statementsPerInvocation - 1) + ticks * 4
  const turns = tasks * (ofBusy?.statements ?? 1)
  const statements = tasks + starts + turns
  const micros =
    tasks * (inputs.enqueueMicros + (ofBusy?.micros ?? inputs.drainMicros)) +
    (starts + (ofBusy === undefined ? turns : 0)) * inputs.statementMicros
  const cpuMicrosPerTask = micros / tasks
  const peakCores = (peakPerSecond * cpuMicrosPerTask) / 1e6
  // The body is written with the enqueue and again with the history row.
  const walBytes = inputs.walBytes + 2 * workload.bodyBytes
  const walGb = (tasks * walBytes) / 1e9
  const peakWalMegabytes = (peakPerSecond * walBytes) / 1e6
  const storedGb = (tasks * workload.keptDays * (inputs.storedBytes + workload.bodyBytes)) / 1e9
  const connections = runners * 2 + Math.ceil(peakPerSecond * workload.turnSeconds) + 2
  const computeUnits = Math.max(0.25, peakCores / workload.utilisation)
  const shares: Record<keyof typeof limits, number> = {
    'connections (500 without a pooler)': connections,
    'Lambda concurrency (1,000 of an account)': runners,
    'database cores (32)': peakCores / workload.utilisation,
    'WAL (100 MB/s)': peakWalMegabytes,
    'storage (16 TB)': storedGb,
  }
  const [first] = (Object.keys(limits) as (keyof typeof limits)[])
    .map((name) => ({ name, share: shares[name] / limits[name] }))
    .toSorted((a, b) => b.share - a.share)
  return {
    tasks,
    concurrency,
    peakPerSecond,
    runners,
    connections,
    invocations,
    statements,
    gbSeconds,
    cpuMicrosPerTask,
    peakCores,
    walGb,
    peakWalMegabytes,
    storedGb,
    lambdaDollars:
      (gbSeconds * prices.lambdaGbSecond.dollars +
        (invocations + ticks) * prices.lambdaRequest.dollars +
        ticks * prices.schedulerInvocation.dollars) *
      daysPerMonth,
    databaseDollars:
      computeUnits * 24 * daysPerMonth * prices.neonCuHour.dollars +
      storedGb * prices.neonGbMonth.dollars +
      walGb * prices.neonHistoryGbMonth.dollars,
    bottleneck: `${first?.name}: ${short((first?.share ?? 0) * 100)} %`,
  }
}

/** Places of the runners whose cost the bench measures for this, with handlers of `taskSeconds`. */
export const busyConcurrencies = [20, 50] as const
export const busyCase = (concurrency: number): string =>
  `${concurrency} places × ${workload.taskSeconds * 1000} ms`

/** Tasks a day, and the runner's concurrency that fits them. */
export const volumes = [
  [1e3, 10],
  [1e5, 10],
  [1e7, 20],
  [1e9, 50],
] as const

/** Undefined, and a warning, when the bench has not measured all that this needs. */
export function modelText(results: Results): string | undefined {
  const inputs = inputsOf(results)
  if ('missing' in inputs) {
    process.stderr.write(
      `The model stays as it is, since these are not measured: ${inputs.missing.join('; ')}\n`,
    )
    return undefined
  }
  const grown = volumes.map(([tasks, concurrency]) => grow(tasks, concurrency, inputs))
  const row = (name: string, cell: (growth: Growth) => string) => [name, ...grown.map(cell)]
  const table = markdownTable(
    ['tasks a day', ...grown.map(({ tasks }) => amount(tasks))],
    [
      row('peak, tasks/s', ({ peakPerSecond }) => short(peakPerSecond)),
      row('`IZTA_CONCURRENCY`', ({ concurrency }) => String(concurrency)),
      row('runners at the peak', ({ runners }) => short(runners)),
      row('connections at the peak', ({ connections }) => short(connections)),
      row('invocations of runners', ({ invocations }) => amount(invocations)),
      row('statements', ({ statements }) => amount(statements)),
      row('database CPU, µs/task', ({ cpuMicrosPerTask }) => short(cpuMicrosPerTask)),
      row('database cores at the peak', ({ peakCores }) => short(peakCores)),
      row('WAL, GB', ({ walGb }) => short(walGb)),
      row('WAL at the peak, MB/s', ({ peakWalMegabytes }) => short(peakWalMegabytes)),
      row(`storage, GB (${workload.keptDays} days kept)`, ({ storedGb }) => short(storedGb)),
      row('Lambda GB-seconds', ({ gbSeconds }) => amount(gbSeconds)),
      row('Lambda and scheduler, $/month', ({ lambdaDollars }) => short(lambdaDollars)),
      row('database, $/month', ({ databaseDollars }) => short(databaseDollars)),
      row('nearest limit', ({ bottleneck }) => bottleneck),
    ],
  )
  const measured = markdownTable(
    ['measured', 'value'],
    [
      ['server CPU of claim and settle in a large turn, µs/task', short(inputs.drainMicros)],
      ...[...inputs.busy].flatMap(([concurrency, { micros, statements }]) => [
        [`CPU of a task in a busy runner with ${concurrency} places, µs`, short(micros)],
        [`its statements`, short(statements)],
      ]),
      ['server CPU of one enqueue call, µs', short(inputs.enqueueMicros)],
      ['server CPU of a statement beside its tasks, µs', short(inputs.statementMicros)],
      ['WAL, bytes/task', short(inputs.walBytes)],
      ['bytes on disk/task', short(inputs.storedBytes)],
      ['statements of an invocation', short(inputs.statementsPerInvocation)],
    ],
  )
  return `${measured}\n\n${table}`
}

function amount(value: number): string {
  for (const [size, letter] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (value >= size) return `${short(value / size)} ${letter}`
  }
  return short(value)
}

/** Without an exponent. */
const decimal = (value: number) => value.toFixed(10).replace(/\.?0+$/, '')

export function pricesText(): string {
  return markdownTable(
    ['price', 'of one', 'from', 'as of'],
    Object.values(prices).map((price) => {
      const caveat = 'caveat' in price ? `; ${price.caveat}` : ''
      return [`$${decimal(price.dollars)}`, price.unit, `${price.source}${caveat}`, price.asOf]
    }),
    4,
  )
}

if (import.meta.main) {
  const [file = join(import.meta.dirname, 'results', 'results.json')] = process.argv.slice(2)
  await writeSection('prices', pricesText())
  const results = await readResults(file)
  if (results === undefined) throw new Error(`${file} does not exist: run the bench first`)
  const text = modelText(results)
  if (text !== undefined) await writeSection('model', text)
}
