// What a run does next, for each state that matters.
import { expect, test } from 'vitest'
import { nextStep, type RunState, type Step } from '../../src/runner/next-step.ts'

/** At work with one task, nothing to send, no claim due. */
const busy: RunState = {
  nowMs: 1000,
  canClaim: true,
  limit: 10,
  free: 9,
  isIdle: false,
  hasRunning: true,
  outcomes: 0,
  pace: { lastTurnAtMs: -Infinity, waiting: undefined, recentMs: 0 },
  turnsInFlight: 0,
  claimWasLost: false,
  hasBacklog: false,
  claimAtMs: Infinity,
  watchAtMs: 6000,
  isDone: false,
}
const idle: Partial<RunState> = { isIdle: true, hasRunning: false, free: 10, watchAtMs: Infinity }
const turn = (limit: number, watches = false): Step => ({ kind: 'turn', limit, watches })
const wait = (ms: number): Step => ({ kind: 'wait', ms })

test.each<[string, Partial<RunState>, Step]>([
  ['an outcome is settled, and as much is claimed as is free', { outcomes: 1 }, turn(9)],
  ['a claim that is due is made', { claimAtMs: 1000 }, turn(9)],
  ['a claim that is not due yet is waited for', { claimAtMs: 1050 }, wait(50)],
  ['a claim that is due waits when nothing is free', { claimAtMs: 1000, free: 0 }, wait(5000)],
  ['claims in flight that may bring more than is free leave nothing', { claimAtMs: 0, free: -3 }, wait(5000)],
  ['cancellations are read when that is due', { watchAtMs: 1000 }, turn(9, true)],
  ['without anything due, the next look for cancellations is waited for', {}, wait(5000)],
  ['while a turn is in flight its answer is waited for', { outcomes: 1, turnsInFlight: 1 }, wait(Infinity)],
  [
    'past the last claim outcomes are settled, and nothing is claimed',
    { outcomes: 1, canClaim: false },
    turn(0),
  ],
  ['past the last claim a due claim is none', { claimAtMs: 0, canClaim: false }, wait(5000)],
])('at work: %s', (_, state, expected) => {
  expect(nextStep({ ...busy, ...state })).toEqual(expected)
})

test.each<[string, Partial<RunState>, Step]>([
  ['leaves when nothing is due', { isDone: true }, { kind: 'leave' }],
  ['leaves past the last claim', { canClaim: false }, { kind: 'leave' }],
  ['stays while it cannot know that nothing is due', { claimAtMs: 1050 }, wait(50)],
  ['stays while a turn is in flight', { isDone: true, turnsInFlight: 1 }, wait(Infinity)],
  ['waits for a change when it stays whatever is due', {}, wait(Infinity)],
])('idle: %s', (_, state, expected) => {
  expect(nextStep({ ...busy, ...idle, ...state })).toEqual(expected)
})

test('a run that is done stays while it has a task', () => {
  expect(nextStep({ ...busy, isDone: true })).toEqual(wait(5000))
})

test.each<[string, Partial<RunState>, Step]>([
  ['is recovered before the next claim', { claimAtMs: 1000 }, { kind: 'recover' }],
  ['is recovered when a turn in flight was answered', { turnsInFlight: 1 }, wait(Infinity)],
  ['does not hold up outcomes when nothing can be claimed', { outcomes: 1, free: 0 }, turn(0)],
  ['is left to the end past the last claim', { outcomes: 1, canClaim: false }, turn(0)],
])('a lost claim: %s', (_, state, expected) => {
  expect(nextStep({ ...busy, claimWasLost: true, ...state })).toEqual(expected)
})

/** More is due than fits, and outcomes wait. */
const backlog: RunState = { ...busy, limit: 200, hasBacklog: true, outcomes: 1, claimAtMs: 1000 }

test.each<[string, Partial<RunState>, Step]>([
  ['a turn claims half of the limit, so that a second fits next to it', { free: 200 }, turn(100)],
  ['a second turn is sent while the first is in flight', { free: 100, turnsInFlight: 1 }, turn(100)],
  ['a second turn is sent for 64 tasks', { free: 64, turnsInFlight: 1 }, turn(64)],
  ['no second turn is sent for fewer', { free: 63, turnsInFlight: 1 }, wait(Infinity)],
  ['a third is never sent', { free: 200, turnsInFlight: 2 }, wait(Infinity)],
  [
    'without a backlog no second turn is sent',
    { free: 200, turnsInFlight: 1, hasBacklog: false },
    wait(Infinity),
  ],
  ['a small limit is claimed in one turn', { limit: 100, free: 100 }, turn(100)],
  ['a small limit has no second turn', { limit: 100, free: 100, turnsInFlight: 1 }, wait(Infinity)],
  [
    'a second turn is worth it for a quarter of a large limit',
    { limit: 1000, free: 249, turnsInFlight: 1 },
    wait(Infinity),
  ],
  ['a quarter of a large limit is enough', { limit: 1000, free: 250, turnsInFlight: 1 }, turn(250)],
])('in a backlog: %s', (_, state, expected) => {
  expect(nextStep({ ...backlog, ...state })).toEqual(expected)
})

/** Handlers of 200 ms: turns begin 25 ms apart, and the first to end waits 5 ms. The last turn began 10 ms ago. */
const waiting = { firstEndedAtMs: 999, shortestMs: 200 }
const pace = { lastTurnAtMs: 990, waiting, recentMs: 200 }
const paced: RunState = { ...busy, outcomes: 1, pace, free: 1, claimAtMs: 0 }
const long = { ...pace, waiting: { firstEndedAtMs: 999, shortestMs: 60_000 } }
const claims = { outcomes: 0, pace: { ...pace, waiting: undefined } }

test.each<[string, Partial<RunState>, Step]>([
  ['turns begin an eighth of the handlers’ time apart', {}, wait(15)],
  ['a turn is sent then', { nowMs: 1015 }, turn(1)],
  [
    'the first to end waits for the others, however long ago the last turn was',
    { pace: { ...pace, lastTurnAtMs: 0 } },
    wait(4),
  ],
  ['when half of the capacity waits, the distance does not count', { outcomes: 5 }, wait(4)],
  ['of long handlers either is 50 ms', { pace: long }, wait(49)],
  [
    'handlers of 3 ms wait for nothing',
    { pace: { ...pace, waiting: { firstEndedAtMs: 999, shortestMs: 3 } } },
    turn(1),
  ],
  ['a lone task waits for nothing', { hasRunning: false }, turn(1)],
  [
    'outcomes that a failed turn has put back wait for nothing',
    { pace: { ...pace, waiting: undefined } },
    turn(1),
  ],
  ['a look for cancellations takes outcomes along', { watchAtMs: 1000 }, turn(1, true)],
  ['a look for cancellations is not put off', { watchAtMs: 1003 }, wait(3)],
  ['a run that claims nothing more settles at once', { canClaim: false }, turn(0)],
  ['a claim without outcomes keeps the distance', claims, wait(15)],
  ['a claim without outcomes is made then', { ...claims, nowMs: 1015 }, turn(1)],
  ['a claim that is due later is not made earlier', { ...claims, claimAtMs: 1040 }, wait(40)],
  ['a claim waits for nothing when no handler runs', { ...claims, hasRunning: false }, turn(1)],
  ['no claim is made ahead of free capacity', { ...claims, free: 0, nowMs: 1015 }, wait(4985)],
])('paced: %s', (_, state, expected) => {
  expect(nextStep({ ...paced, ...state })).toEqual(expected)
})

test('paced: a second turn keeps the distance too, and is sent before the first is answered', () => {
  const state = { ...backlog, outcomes: 64, free: 64, turnsInFlight: 1, pace }
  expect(nextStep(state)).toEqual(wait(15))
  expect(nextStep({ ...state, nowMs: 1015 })).toEqual(turn(64))
})
