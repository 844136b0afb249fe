import { afterEach, expect, test, vi } from 'vitest'
import type { Clock } from '../../src/clock.ts'
import type { Database, Row, SqlText, Statement } from '../../src/db/database.ts'
import { throughGate } from '../../src/db/gated.ts'
import { repeat as repeatStatement, repeatDefaults, type RepeatOptions } from '../../src/db/run.ts'
import { DatabaseError, type StatementOutcome } from '../../src/errors.ts'

afterEach(() => {
  vi.restoreAllMocks()
})

function failed(outcome: StatementOutcome, retryable = true): DatabaseError {
  return new DatabaseError('test', `failed, ${outcome}`, { outcome, retryable })
}

/** Answers with what is scripted, in order. */
function scripted(...answers: (Row[] | Error)[]): Database & { readonly sent: SqlText[] } {
  const sent: SqlText[] = []
  return {
    sent,
    async query(statement) {
      sent.push(statement)
      const answer = answers.shift() ?? new Error('more statements than answers')
      if (answer instanceof Error) throw answer
      return answer
    },
  }
}

/** Pauses end at once and are noted. */
function instantClock(): Clock & { readonly pauses: number[] } {
  const pauses: number[] = []
  let now = 1_000
  return {
    pauses,
    now: () => now,
    after(ms, callback) {
      pauses.push(ms)
      now += ms
      queueMicrotask(callback)
      return () => undefined
    },
  }
}

/** Pauses are measured by the same clock as the deadline. */
function repeat(database: Database, clock: Clock, make: typeof build, options: RepeatOptions = {}) {
  return repeatStatement(throughGate(database), clock, make, { ...options, pauseClock: clock })
}

const build = (isRepeat: boolean): Statement => ({
  lane: 'quick',
  text: isRepeat ? 'repeat' : 'first',
  values: [],
})

function textsOf({ sent }: { sent: readonly SqlText[] }): string[] {
  return sent.map(({ text }) => text)
}

test('a statement that succeeds is sent once', async () => {
  const database = scripted([{ id: '1' }])
  expect(await repeat(database, instantClock(), build)).toEqual({ rows: [{ id: '1' }], ambiguous: false })
  expect(textsOf(database)).toEqual(['first'])
})

test('after tries that were certainly not applied it is sent unchanged', async () => {
  const database = scripted(failed('not-applied'), failed('not-applied'), [])
  expect(await repeat(database, instantClock(), build)).toEqual({ rows: [], ambiguous: false })
  expect(textsOf(database)).toEqual(['first', 'first', 'first'])
})

test('once an answer was lost every later try is built as a repeat', async () => {
  const database = scripted(failed('not-applied'), failed('unknown'), failed('not-applied'), [])
  expect(await repeat(database, instantClock(), build)).toEqual({ rows: [], ambiguous: true })
  expect(textsOf(database)).toEqual(['first', 'first', 'repeat', 'repeat'])
})

test('an error that is not retryable is thrown at once', async () => {
  const error = failed('not-applied', false)
  const database = scripted(error)
  await expect(repeat(database, instantClock(), build)).rejects.toBe(error)
  expect(database.sent).toHaveLength(1)
})

test('an error that an adapter of the application has not classified may have been applied, and is thrown at once', async () => {
  const database = scripted(new TypeError('a bug'))
  const expected = { name: 'DatabaseError', code: 'database-error', outcome: 'unknown' }
  await expect(repeat(database, instantClock(), build)).rejects.toMatchObject(expected)
  expect(database.sent).toHaveLength(1)
})

test('the tries are limited', async () => {
  const database = scripted(...Array.from({ length: 9 }, () => failed('not-applied')))
  await expect(repeat(database, instantClock(), build)).rejects.toThrow('not-applied')
  expect(database.sent).toHaveLength(repeatDefaults.attempts)
})

test('when the tries run out after a lost answer the outcome stays unknown', async () => {
  const database = scripted(failed('unknown'), failed('not-applied'))
  const options = { attempts: 2 }
  await expect(repeat(database, instantClock(), build, options)).rejects.toMatchObject({ outcome: 'unknown' })
})

test('a refusal after a lost answer is thrown as it is, and the outcome stays unknown', async () => {
  const refusal = failed('not-applied', false)
  const thrown = repeat(scripted(failed('unknown'), refusal), instantClock(), build)
  await expect(thrown).rejects.toBe(refusal)
  expect(refusal.outcome).toBe('unknown')
})

test('pauses double from the first to the longest, each a random share of it', async () => {
  const clock = instantClock()
  const random = vi.spyOn(Math, 'random').mockReturnValue(1)
  const failures = Array.from({ length: 8 }, () => failed('not-applied'))
  await repeat(scripted(...failures, []), clock, build, { attempts: 9 })
  expect(clock.pauses).toEqual([50, 100, 200, 400, 800, 1600, 2000, 2000])
  random.mockReturnValue(0.25)
  await repeat(scripted(failed('not-applied'), []), clock, build)
  expect(clock.pauses.at(-1)).toBe(12.5)
})

test('no pause goes beyond the deadline', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(1)
  const database = scripted(failed('not-applied'), failed('not-applied'), [])
  const options = { deadlineMs: 1_000 + 50 + 100 }
  await expect(repeat(database, instantClock(), build, options)).rejects.toThrow('not-applied')
  expect(database.sent).toHaveLength(2)
})

test('a signal ends the pause and no further try is made', async () => {
  const controller = new AbortController()
  const clock: Clock = { now: () => 0, after: () => () => undefined }
  const database = scripted(failed('unknown'), [])
  const reply = repeat(database, clock, build, { signal: controller.signal })
  controller.abort()
  await expect(reply).rejects.toMatchObject({ outcome: 'unknown' })
  expect(database.sent).toHaveLength(1)
})

test('a clock that a test has stopped does not stop the pauses', async () => {
  const stopped: Clock = { now: () => 0, after: () => () => undefined }
  vi.spyOn(Math, 'random').mockReturnValue(0)
  const reply = await repeatStatement(throughGate(scripted(failed('not-applied'), [])), stopped, build)
  expect(reply.rows).toEqual([])
})

test('values that no string can hold are refused as data, before anything is sent', async () => {
  const database = scripted()
  const longest = 2 ** 29 - 24
  const tooLong = () => ({ ...build(false), text: 'x'.repeat(longest).padEnd(longest + 1, 'x') })
  await expect(repeatStatement(throughGate(database), instantClock(), tooLong)).rejects.toMatchObject({
    name: 'DatabaseError',
    code: 'data-refused',
    outcome: 'not-applied',
    retryable: false,
    message:
      'The values of a statement are too long for one string (Invalid string length): send less at once.',
  })
  expect(database.sent).toEqual([])
})

test('when the time ends before the last try is sent, the error of the try before it is thrown', async () => {
  const busy = new DatabaseError('busy', 'not sent', { retryable: true })
  const thrown = repeat(scripted(failed('not-applied'), busy), instantClock(), build, { attempts: 2 })
  await expect(thrown).rejects.toThrow('failed, not-applied')
  await expect(repeat(scripted(busy), instantClock(), build, { attempts: 1 })).rejects.toBe(busy)
})

test('after a lock timeout no try is sent that could not be answered in time', async () => {
  let sent = 0
  const gated = throughGate(
    {
      async query() {
        sent++
        await new Promise((resolve) => setTimeout(resolve, 60))
        throw new DatabaseError('lock-timeout', 'held', { retryable: true })
      },
    },
    { callTimeoutSeconds: 0.1 },
  )
  const thrown = repeatStatement(gated, instantClock(), build)
  await expect(thrown).rejects.toMatchObject({ code: 'lock-timeout', outcome: 'not-applied' })
  expect(sent).toBe(1)
})
