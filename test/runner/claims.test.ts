// When a run claims next, and when it believes that nothing is due.
import type { Clock } from 'izta'
import { expect, test } from 'vitest'
import { ClaimPolicy } from '../../src/runner/claims.ts'

function claiming(isLast = false) {
  let nowMs = 1000
  const clock: Clock = { now: () => nowMs, after: () => () => {} }
  const policy = new ClaimPolicy(clock)
  /** A claim that is answered after so long. */
  const claim = (claimed: number, { takesMs = 0, limit = 10, meanwhile = () => {} } = {}) => {
    const sent = policy.sent()
    nowMs += takesMs
    meanwhile()
    policy.record(sent, { limit, claimed, isLast })
  }
  return { policy, claim, now: () => nowMs, wait: (ms: number) => void (nowMs += ms) }
}

test('the first claim is due at once', () => {
  const { policy, now } = claiming()
  expect([policy.nextAtMs, policy.isExhausted]).toEqual([now(), false])
})

test('a full claim is followed by the next at once, a partial one after the pause', () => {
  const { policy, claim, now } = claiming()
  claim(10)
  expect(policy.nextAtMs).toBe(now())
  claim(9)
  expect(policy.nextAtMs).toBe(now() + 50)
})

test('to a run that goes on one empty claim proves nothing, a second one sent a pause later does', () => {
  const { policy, claim, now, wait } = claiming()
  claim(0)
  expect([policy.nextAtMs, policy.isExhausted]).toEqual([now() + 50, false])
  wait(50)
  claim(0)
  expect([policy.nextAtMs, policy.isExhausted]).toEqual([Infinity, true])
})

test('a second empty claim proves nothing when it was sent too early, however late its answer', () => {
  const { policy, claim, wait } = claiming()
  claim(0)
  wait(10)
  claim(0, { takesMs: 500 })
  expect(policy.isExhausted).toBe(false)
})

test('a claim that brought something starts the count anew', () => {
  const { policy, claim, wait } = claiming()
  claim(0)
  wait(50)
  claim(1)
  wait(50)
  claim(0)
  expect(policy.isExhausted).toBe(false)
})

test('what became due while a claim was on its way is looked for at once', () => {
  const { policy, claim, now, wait } = claiming()
  claim(0)
  wait(50)
  claim(0, { takesMs: 5, meanwhile: () => policy.recheck() })
  expect([policy.nextAtMs, policy.isExhausted]).toEqual([now(), false])
})

test('a turn that asked for nothing tells nothing', () => {
  const { policy, claim, now } = claiming()
  claim(0, { limit: 0 })
  claim(0, { limit: 0 })
  expect([policy.nextAtMs, policy.isExhausted]).toEqual([now(), false])
})

test('a run with nothing in hand may end with its first empty claim', () => {
  const { policy, claim } = claiming(true)
  claim(9)
  expect(policy.isExhausted).toBe(false)
  claim(0)
  expect([policy.nextAtMs, policy.isExhausted]).toEqual([Infinity, true])
})

test('what became due between two claims on their way is looked for when the older one is answered', () => {
  const { policy, now } = claiming()
  const older = policy.sent()
  policy.recheck()
  const newer = policy.sent()
  policy.record(newer, { limit: 10, claimed: 0, isLast: true })
  policy.record(older, { limit: 10, claimed: 0, isLast: true })
  expect([policy.nextAtMs, policy.isExhausted]).toEqual([now(), false])
})
