// When a run claims next, and when it believes that nothing is due.
import type { Clock } from 'izta'
import { expect, test } from 'vitest'
import { createLooks } from '../../src/runner/claims.ts'

function looking(endsNow = false) {
  let nowMs = 1000
  const clock: Clock = { now: () => nowMs, after: () => () => {} }
  const looks = createLooks(clock, () => endsNow)
  /** A claim that is answered after so long. */
  const claim = (claimed: number, { takesMs = 0, limit = 10, meanwhile = () => {} } = {}) => {
    const sent = looks.sent()
    nowMs += takesMs
    meanwhile()
    looks.record(sent, limit, claimed)
  }
  return { looks, claim, now: () => nowMs, wait: (ms: number) => void (nowMs += ms) }
}

test('the first claim is due at once', () => {
  const { looks, now } = looking()
  expect([looks.nextAtMs, looks.exhausted]).toEqual([now(), false])
})

test('a full claim is followed by the next at once, a partial one after the pause', () => {
  const { looks, claim, now } = looking()
  claim(10)
  expect(looks.nextAtMs).toBe(now())
  claim(9)
  expect(looks.nextAtMs).toBe(now() + 50)
})

test('to a run that goes on one empty claim proves nothing, a second one sent a pause later does', () => {
  const { looks, claim, now, wait } = looking()
  claim(0)
  expect([looks.nextAtMs, looks.exhausted]).toEqual([now() + 50, false])
  wait(50)
  claim(0)
  expect([looks.nextAtMs, looks.exhausted]).toEqual([Infinity, true])
})

test('a second empty claim proves nothing when it was sent too early, however late its answer', () => {
  const { looks, claim, wait } = looking()
  claim(0)
  wait(10)
  claim(0, { takesMs: 500 })
  expect(looks.exhausted).toBe(false)
})

test('a claim that brought something starts the count anew', () => {
  const { looks, claim, wait } = looking()
  claim(0)
  wait(50)
  claim(1)
  wait(50)
  claim(0)
  expect(looks.exhausted).toBe(false)
})

test('what became due while a claim was on its way is looked for at once', () => {
  const { looks, claim, now, wait } = looking()
  claim(0)
  wait(50)
  claim(0, { takesMs: 5, meanwhile: () => looks.again() })
  expect([looks.nextAtMs, looks.exhausted]).toEqual([now(), false])
})

test('a turn that asked for nothing tells nothing', () => {
  const { looks, claim, now } = looking()
  claim(0, { limit: 0 })
  claim(0, { limit: 0 })
  expect([looks.nextAtMs, looks.exhausted]).toEqual([now(), false])
})

test('a run with nothing in hand may end with its first empty claim', () => {
  const { looks, claim } = looking(true)
  claim(9)
  expect(looks.exhausted).toBe(false)
  claim(0)
  expect([looks.nextAtMs, looks.exhausted]).toEqual([Infinity, true])
})

test('what became due between two claims on their way is looked for when the older one is answered', () => {
  const { looks, now } = looking(true)
  const older = looks.sent()
  looks.again()
  const newer = looks.sent()
  looks.record(newer, 10, 0)
  looks.record(older, 10, 0)
  expect([looks.nextAtMs, looks.exhausted]).toEqual([now(), false])
})
