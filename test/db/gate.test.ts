// Which statement goes next: places are bounded, reserved and limited by lane, and given in order of arrival.
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Lane } from '../../src/db/database.ts'
import { Gate, gateOf, placesOf } from '../../src/db/gate.ts'

const lanes = ['turn', 'quick', 'may-wait'] as const

/** Counts who is inside and notes who entered, in order. */
function watch(connections: number) {
  const gate = new Gate(() => connections)
  const inside: Record<Lane, string[]> = { turn: [], quick: [], 'may-wait': [] }
  const entered: string[] = []
  const waiting: Record<Lane, string[]> = { turn: [], quick: [], 'may-wait': [] }
  const enter = (lane: Lane, name: string) => {
    inside[lane].push(name)
    entered.push(name)
  }
  return {
    inside,
    entered,
    waiting,
    arrive(lane: Lane, name: string) {
      if (gate.tryEnter(lane)) return enter(lane, name)
      waiting[lane].push(name)
      gate.wait(lane, () => {
        waiting[lane].splice(waiting[lane].indexOf(name), 1)
        enter(lane, name)
      })
    },
    end(lane: Lane) {
      if (inside[lane].shift() !== undefined) gate.leave(lane)
    },
  }
}

const steps = fc.array(
  fc.record({ kind: fc.constantFrom('arrive', 'arrive', 'end'), lane: fc.constantFrom(...lanes) }),
  { maxLength: 60 },
)

test('whatever comes and goes, no lane has more than its places, and nobody waits beside a free place', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), steps, (connections, all) => {
      const seen = watch(connections)
      seen.arrive('turn', 'turn before')
      const { inside, waiting } = seen
      const places = placesOf(connections, true)
      for (const [number, { kind, lane }] of all.entries()) {
        if (kind === 'end') seen.end(lane)
        else seen.arrive(lane, `${lane} ${number}`)
        const others = inside.quick.length + inside['may-wait'].length
        const total = inside.turn.length + others
        expect(total).toBeLessThanOrEqual(places.all)
        expect(inside['may-wait'].length).toBeLessThanOrEqual(places.mayWait)
        const isFull = total === places.all
        if (waiting.turn.length > 0) expect(isFull).toBe(true)
        const othersFull = isFull || others >= places.all - places.reserved
        if (waiting.quick.length > 0) expect(othersFull).toBe(true)
        if (waiting['may-wait'].length > 0) {
          expect(othersFull || inside['may-wait'].length === places.mayWait).toBe(true)
        }
      }
    }),
  )
})

test('each lane is first in, first out', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 6 }), steps, (connections, all) => {
      const seen = watch(connections)
      for (const [number, { kind, lane }] of all.entries()) {
        if (kind === 'end') seen.end(lane)
        else seen.arrive(lane, `${lane} ${number}`)
      }
      for (const lane of lanes) {
        const numbers = seen.entered
          .filter((name) => name.startsWith(lane))
          .map((name) => Number(/\d+/.exec(name)))
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
      }
    }),
  )
})

test('quick statements and those that may wait take turns in the order in which they came', () => {
  const seen = watch(1)
  for (const [number, lane] of (['quick', 'may-wait', 'quick', 'may-wait', 'quick'] as const).entries()) {
    seen.arrive(lane, `${number}`)
  }
  for (let n = 0; n < 5; n++) for (const lane of lanes) seen.end(lane)
  expect(seen.entered).toEqual(['0', '1', '2', '3', '4'])
})

test('with two connections or more a turn finds a place, whatever else waits', () => {
  for (const connections of [2, 3, 5, 10, 100]) {
    const seen = watch(connections)
    seen.arrive('turn', 'first')
    seen.end('turn')
    for (let n = 0; n < 1000; n++) seen.arrive(n % 2 === 0 ? 'quick' : 'may-wait', `${n}`)
    seen.arrive('turn', 'second')
    expect(seen.inside.turn).toEqual(['second'])
  }
})

test('with three connections or more a quick statement finds a place beside those that wait for locks', () => {
  for (const connections of [3, 5, 10, 100]) {
    const seen = watch(connections)
    seen.arrive('turn', 'turn')
    for (let n = 0; n < 1000; n++) seen.arrive('may-wait', `${n}`)
    seen.arrive('quick', 'quick')
    expect(seen.inside.quick).toEqual(['quick'])
  }
})

test('a process that takes no turns uses every connection', () => {
  const seen = watch(5)
  for (let n = 0; n < 9; n++) seen.arrive('quick', `${n}`)
  expect(seen.inside.quick).toHaveLength(5)
})

test('who gives up waiting is passed over', () => {
  const gate = new Gate(() => 1)
  const entered: string[] = []
  expect(gate.tryEnter('quick')).toBe(true)
  const giveUp = gate.wait('quick', () => entered.push('first'))
  gate.wait('quick', () => entered.push('second'))
  giveUp()
  gate.leave('quick')
  expect(entered).toEqual(['second'])
})

test('an adapter has one gate, whoever uses it', () => {
  const adapter = { query: async () => [] }
  expect(gateOf(adapter)).toBe(gateOf(adapter))
  expect(gateOf({ ...adapter })).not.toBe(gateOf(adapter))
})
