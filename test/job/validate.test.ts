// Standard Schemas of several makers: at once or later, and what they refuse in izta's words.
import type { StandardSchemaV1 } from '@standard-schema/spec'
import * as v from 'valibot'
import { expect, test } from 'vitest'
import * as z from 'zod'
import { describeIssues, validate, type Validated } from '../../src/job/validate.ts'

function byHand(check: StandardSchemaV1['~standard']['validate']): StandardSchemaV1 {
  return { '~standard': { version: 1, vendor: 'hand', validate: check } }
}

function messageOf(validated: Validated | Promise<Validated>): string {
  if (validated instanceof Promise || validated.ok) throw new Error('expected a refusal at once')
  return describeIssues(validated.issues)
}

test('what a schema makes of a value is handed on', () => {
  expect(validate(z.string().transform(Number), '5')).toEqual({ ok: true, value: 5 })
  expect(validate(v.pipe(v.string(), v.transform(Number)), '5')).toEqual({ ok: true, value: 5 })
  expect(validate(undefined, '5')).toEqual({ ok: true, value: '5' })
})

test('a refusal names every path, and what stands there', () => {
  const payload = { feeds: [{ url: 'x' }, { url: 5 }], at: -1 }
  const schema = z.object({ feeds: z.array(z.object({ url: z.string() })), at: z.number().min(0) })
  expect(messageOf(validate(schema, payload))).toBe(
    '"feeds.1.url": Invalid input: expected string, received number; got 5; "at": Too small: expected number to be >=0; got -1',
  )
})

test('a library that says itself what it got is not repeated', () => {
  expect(messageOf(validate(v.object({ a: v.number() }), { a: 'x' }))).toBe(
    '"a": Invalid type: Expected number but received "x"',
  )
})

test('path segments may be objects with a key', () => {
  const schema = byHand(() => ({
    issues: [{ message: 'Too odd.', path: ['a', { key: 0 }, { key: Symbol('s') }] }],
  }))
  expect(messageOf(validate(schema, { a: [1] }))).toBe('"a.0.Symbol(s)": Too odd; got undefined')
})

test('a schema that answers later is waited for', async () => {
  const schema = z.string().refine(async (text) => text === 'yes', 'not yes')
  await expect(validate(schema, 'yes')).resolves.toEqual({ ok: true, value: 'yes' })
  await expect(validate(schema, 'no')).resolves.toMatchObject({
    ok: false,
    issues: [{ message: 'not yes; got "no"' }],
  })
})

test('a promise of another library is waited for as well', async () => {
  // oxlint-disable-next-line unicorn/no-thenable -- which is the point
  const thenable = { then: (settle: (result: object) => void) => settle({ issues: [{ message: 'never' }] }) }
  const schema = byHand(() => thenable as Promise<StandardSchemaV1.Result<unknown>>)
  expect(await validate(schema, 1)).toMatchObject({ ok: false })
})

test('a schema that throws, at once or later, refuses', async () => {
  const broken = new Error('broken')
  const refusal = { ok: false, issues: [{ path: '', code: 'schema', message: 'the schema threw: broken' }] }
  expect(
    validate(
      byHand(() => {
        throw broken
      }),
      1,
    ),
  ).toEqual(refusal)
  expect(
    await validate(
      byHand(() => Promise.reject(broken)),
      1,
    ),
  ).toEqual(refusal)
})
