// How many handlers may run, and which must run without others.
import { expect, test } from 'vitest'
import { Capacity } from '../../src/runner/capacity.ts'

function holding(limit: number, ...ids: string[]) {
  const capacity = new Capacity(limit)
  for (const id of ids) capacity.acquire(id)
  return capacity
}

test('each running handler takes a place until it is released', () => {
  const capacity = holding(3, 'a', 'b')
  expect(capacity.free()).toBe(1)
  capacity.release('a')
  expect(capacity.free()).toBe(2)
})

test('a stuck handler keeps its place, and gives it back when it ends', () => {
  const capacity = holding(3, 'a', 'b')
  capacity.abandon('a')
  expect([capacity.free(), [...capacity.stuck], [...capacity.running]]).toEqual([1, ['a'], ['a', 'b']])
  capacity.release('a')
  expect([capacity.free(), [...capacity.stuck]]).toEqual([2, []])
})

test('tasks that run without others wait for those that run, and nothing else starts', () => {
  const capacity = holding(5, 'a')
  expect(capacity.requestExclusive(['x', 'y'])).toBe(false)
  expect(capacity.free()).toBe(0)
  capacity.release('a')
  expect(capacity.requestExclusive(['x', 'y'])).toBe(true)
  capacity.acquire('x')
  capacity.acquire('y')
  capacity.release('x')
  expect(capacity.free()).toBe(0)
  capacity.release('y')
  expect(capacity.free()).toBe(5)
})

test('two groups run one after the other', () => {
  const capacity = holding(5)
  expect(capacity.requestExclusive(['x'])).toBe(true)
  expect(capacity.requestExclusive(['y'])).toBe(false)
  capacity.release('x')
  expect(capacity.requestExclusive(['y'])).toBe(true)
})

test('a stuck handler keeps no task from running without others, be it of their group or not', () => {
  const capacity = holding(5, 'a')
  capacity.requestExclusive(['x'])
  capacity.abandon('a')
  expect(capacity.requestExclusive(['x'])).toBe(true)
  capacity.acquire('x')
  capacity.abandon('x')
  expect(capacity.free()).toBe(3)
})

test('listeners hear of each change until they leave', () => {
  const capacity = holding(5, 'a', 'b')
  let changes = 0
  const leave = capacity.onChange(() => void changes++)
  capacity.abandon('a')
  capacity.release('a')
  leave()
  capacity.release('b')
  expect(changes).toBe(2)
})
