// One run of one queue, in this process: node child.ts QUEUE WORK OPTIONS prints its result as a line of JSON.
import { Client } from 'pg'
import type { OpenQueue, QueueOptions } from './queue.ts'
import type { Tree } from './tree.ts'
import { treeWorks, type TreeWorks } from './tree-works/index.ts'
import { drain, enqueue, latency, memory, mixed, type WorkOptions } from './works.ts'

const queueWorks = { drain, enqueue, latency, mixed, memory }
type QueueWorks = typeof queueWorks

export type WorkName = keyof QueueWorks | keyof TreeWorks
type Work<Name extends WorkName> = (QueueWorks & TreeWorks)[Name]

/** What a work takes beside the database's URL, and the queue's own options. */
export type OptionsOf<Name extends WorkName> = Omit<Parameters<Work<Name>>[2], 'url'>
export type ResultOf<Name extends WorkName> = Awaited<ReturnType<Work<Name>>>

if (import.meta.main) {
  const [name = '', work = '', json = '{}'] = process.argv.slice(2)
  // `Bench.run` gives each work what it takes.
  const options = JSON.parse(json) as QueueOptions & WorkOptions
  const peer = (await import(`./peers/${name}.ts`)) as { openQueue: OpenQueue; tree?: Tree }
  const database = new Client({ connectionString: options.url })
  await database.connect()
  if (work in queueWorks) {
    const queue = peer.openQueue(options)
    await queue.install()
    print(await queueWorks[work as keyof QueueWorks](queue, database, options))
    await queue.close()
  } else {
    const { tree } = peer
    if (tree === undefined) throw new Error(`${name} is not izta: it cannot run ${work}`)
    print(await treeWorks[work as keyof TreeWorks](tree, database, options as never))
  }
  await database.end()
}

function print(result: unknown): void {
  process.stdout.write(`${JSON.stringify(result)}\n`)
}
