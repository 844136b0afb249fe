// One run of one queue, in this process: node child.ts QUEUE WORK OPTIONS prints its result as a line of JSON.
import { Client } from 'pg'
import type { OpenQueue, QueueOptions } from './queue.ts'
import { drain, enqueue, latency, memory, mixed, type WorkOptions } from './works.ts'

const works = { drain, enqueue, latency, mixed, memory }
export type Works = typeof works
export type WorkName = keyof Works

if (import.meta.main) {
  const [name = '', work = '', json = '{}'] = process.argv.slice(2)
  const options = JSON.parse(json) as QueueOptions & WorkOptions
  const { openQueue } = (await import(`./peers/${name}.ts`)) as { openQueue: OpenQueue }
  const database = new Client({ connectionString: options.url })
  await database.connect()
  const queue = openQueue(options)
  await queue.install()
  const result = await works[work as WorkName](queue, database, options)
  process.stdout.write(`${JSON.stringify(result)}\n`)
  await queue.close()
  await database.end()
}
