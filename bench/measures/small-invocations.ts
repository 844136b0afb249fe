// What many small invocations of the Lambda runner ask of the database.
import { Client } from 'pg'
import { defineJob, createIzta, type Database } from '../../src/index.ts'
import { neonDatabase } from '../../src/adapters/neon.ts'
import { pgDatabase } from '../../src/adapters/pg.ts'
import { createRunnerHandler } from '../../src/aws/lambda.ts'
import { z } from 'zod'
import { quantile, type Measure, type Row } from '../measure.ts'
import { startNeonEndpoint } from '../neon-endpoint.ts'
import { serverCpuMicros } from '../server-cpu.ts'

const tasksEach = 20

export const smallInvocations: Measure = {
  name: 'small-invocations',
  title: '1,000 invocations of the runner with 20 tasks each: statements, round trips, duration',
  async run(bench) {
    const invocations = bench.size(1000, 10)
    const rows: Row[] = []
    // oxlint-disable no-await-in-loop -- one driver at a time
    for (const driver of ['pg', 'Neon HTTP']) {
      await using database = await bench.server.database()
      const endpoint = driver === 'pg' ? undefined : await startNeonEndpoint(database.url)
      const port = counted(endpoint === undefined ? pgDatabase(database.url) : neonDatabase(endpoint.url))
      const job = defineJob({ id: 'note', payload: z.object({ n: z.number() }), run() {} })
      const silent = { debug() {}, info() {}, warn() {}, error() {} }
      const izta = createIzta({ database: port, jobs: [job], log: silent })
      await izta.migrate()
      const handler = createRunnerHandler({ izta, concurrency: 50 })
      const watcher = new Client(database.url)
      await watcher.connect()
      let serverMicros = 0
      const statements: number[] = []
      const ms: number[] = []
      for (let invocation = 0; invocation < invocations; invocation++) {
        await izta.enqueueMany(
          job,
          Array.from({ length: tasksEach }, (_, n) => ({ n })),
        )
        const cpuBefore = await serverCpuMicros(watcher)
        const before = port.statements()
        const startedAt = performance.now()
        await handler({}, { getRemainingTimeInMillis: () => 90_000 })
        ms.push(performance.now() - startedAt)
        statements.push(port.statements() - before)
        serverMicros += (await serverCpuMicros(watcher)) - cpuBefore
      }
      await Promise.all([izta.close(), watcher.end()])
      await endpoint?.stop()
      rows.push(
        {
          subject: driver,
          unit: 'statements/invocation',
          values: statements,
          target: { of: 'value', atMost: 3 },
        },
        // One statement is one round trip with either driver.
        { subject: driver, unit: 'round trips/task', values: statements.map((count) => count / tasksEach) },
        { subject: driver, unit: 'ms/invocation p50', values: [quantile(ms, 0.5)] },
        // Without the enqueue.
        { subject: driver, unit: 'µs server CPU/invocation', values: [serverMicros / invocations] },
      )
    }
    return rows
  },
}

function counted(database: Database): Database & { statements(): number } {
  let count = 0
  return {
    ...database,
    query(statement) {
      count++
      return database.query(statement)
    },
    statements: () => count,
  }
}
