// Ended tasks on their way to the database: two lanes, bounded in bytes.
import { expect, test } from 'vitest'
import { Outbox } from '../../src/runner/outbox.ts'
import type { Ended } from '../../src/runner/outcome.ts'

const mebibyte = 1024 * 1024

function ended(
  id: string,
  {
    bodyBytes = 0,
    childBytes = [] as number[],
    key,
    idWasGiven = false,
  }: { bodyBytes?: number; childBytes?: number[]; key?: string; idWasGiven?: boolean } = {},
): Ended {
  const children = childBytes.map((bytes) => ({ payload: 'x'.repeat(bytes), key, idWasGiven }))
  return {
    task: { id },
    outcome: { id, kind: 'finish', body: 'x'.repeat(bodyBytes), children },
  } as unknown as Ended
}

const idsOf = (batch: readonly Ended[]) => batch.map(({ task }) => task.id)

test('a batch carries everything that has ended, up to 8 MiB', () => {
  const outbox = new Outbox()
  for (let n = 0; n < 10; n++) outbox.add(ended(`${n}`, { bodyBytes: mebibyte }))
  expect(idsOf(outbox.takeBatch())).toEqual(['0', '1', '2', '3', '4', '5', '6', '7'])
  expect(idsOf(outbox.takeBatch())).toEqual(['8', '9'])
  expect(outbox.isEmpty).toBe(true)
})

test('a parent is never split from its children, however large they are', () => {
  const outbox = new Outbox()
  outbox.add(ended('small'))
  outbox.add(ended('large', { childBytes: Array.from({ length: 20 }, () => mebibyte) }))
  outbox.add(ended('last'))
  expect(idsOf(outbox.takeBatch())).toEqual(['small'])
  expect(idsOf(outbox.takeBatch())).toEqual(['large'])
  expect(idsOf(outbox.takeBatch())).toEqual(['last'])
})

test('bytes count, not characters', () => {
  const outbox = new Outbox()
  const wide = { outcome: { body: '日'.repeat(2 * mebibyte), children: [] } }
  for (const id of ['a', 'b']) outbox.add({ ...wide, task: { id } } as unknown as Ended)
  expect(idsOf(outbox.takeBatch())).toEqual(['a'])
})

test('parents of children with keys or given ids go in a lane of their own, one by one', () => {
  const outbox = new Outbox()
  outbox.add(ended('keyed 1', { childBytes: [1], key: 'k' }))
  outbox.add(ended('free', { childBytes: [1] }))
  outbox.add(ended('keyed 2', { childBytes: [1], idWasGiven: true }))
  expect(outbox.ids()).toEqual(['free', 'keyed 1', 'keyed 2'])
  expect(idsOf(outbox.takeBatch())).toEqual(['free'])
  expect([outbox.waiting, outbox.isEmpty]).toEqual([0, false])
  expect(outbox.takeKeyed()?.task.id).toBe('keyed 1')
  expect(outbox.takeKeyed()?.task.id).toBe('keyed 2')
  expect(outbox.takeKeyed()).toBeUndefined()
})

test('what could not be sent comes back first in line, each into its lane', () => {
  const outbox = new Outbox()
  outbox.add(ended('later'))
  outbox.putBack([ended('first'), ended('keyed', { childBytes: [1], key: 'k' }), ended('second')])
  expect(idsOf(outbox.takeBatch())).toEqual(['first', 'second', 'later'])
  expect(outbox.takeKeyed()?.task.id).toBe('keyed')
})
