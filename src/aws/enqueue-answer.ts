// What the enqueue function answers: statuses, codes, and everything that is wrong with a request.
import type * as z from 'zod/mini'
import { showValue } from '../options.ts'

/** One thing that is wrong with a request. */
export interface EnqueueIssue {
  /** Position in `tasks`, from 0; absent when the request as a whole is meant. */
  readonly index?: number
  /** Dotted path inside the task, for example `payload.numerator` or `options.priority`; `''` for all of it. */
  readonly path: string
  readonly code: string
  readonly message: string
}

/** What became of a request. Messages name no host, statement or stack. */
export type EnqueueAnswer =
  | {
      readonly statusCode: 202
      readonly tasks: readonly { readonly id: string; readonly created: boolean }[]
    }
  | {
      readonly statusCode: 400 | 404 | 405 | 413 | 422 | 500 | 503
      readonly error: {
        readonly code: string
        readonly message: string
        /** Whether the same request, with the same ids, can succeed later. */
        readonly retryable: boolean
        readonly issues: readonly EnqueueIssue[]
      }
    }

export type Refused = Exclude<EnqueueAnswer, { statusCode: 202 }>

/** What Lambda takes in a request: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html */
export const bodyLimitBytes = 6 * 1024 * 1024

export function refuse(
  statusCode: Refused['statusCode'],
  code: string,
  message: string,
  { issues = [], retryable = false }: { issues?: readonly EnqueueIssue[]; retryable?: boolean } = {},
): Refused {
  return { statusCode, error: { code, message, retryable, issues } }
}

/** An answer that lists more would be larger than Lambda carries, and nobody would read it. */
export const listedIssues = 1000

/** What a caller wrote may be as long as the request; with the largest there are it must fit an answer. */
const shorten = (text: string) => (text.length > 300 ? `${text.slice(0, 299)}…` : text)

export const listed = (issues: readonly EnqueueIssue[]): EnqueueIssue[] =>
  issues
    .slice(0, listedIssues)
    .map((issue) => ({ ...issue, path: shorten(issue.path), message: shorten(issue.message) }))

const decoder = new TextDecoder('utf-8', { fatal: true })

/** The value of a body, or the answer that refuses it. */
export function readJson(bytes: Buffer): Refused | { readonly value: unknown } {
  if (bytes.length > bodyLimitBytes) {
    const message = `The body is above the limit of ${bodyLimitBytes} bytes: split the tasks, or pass references.`
    return refuse(413, 'body-too-large', message)
  }
  try {
    return { value: JSON.parse(decoder.decode(bytes)) as unknown }
  } catch (error) {
    const what = error instanceof SyntaxError ? 'JSON' : 'UTF-8 text'
    return refuse(
      400,
      'invalid-json',
      `The body is not ${what}: send { "tasks": [{ "job": …, "payload": … }] }.`,
    )
  }
}

/** As many as an answer lists. */
export function shapeIssuesOf(issues: readonly z.core.$ZodIssue[]): EnqueueIssue[] {
  const found: EnqueueIssue[] = []
  for (const issue of issues) {
    if (found.length >= listedIssues) break
    found.push(...shapeIssues(issue))
  }
  return listed(found)
}

/** zod's words for a request of the wrong shape. */
function shapeIssues(issue: z.core.$ZodIssue): EnqueueIssue[] {
  const [list, index, ...rest] = issue.path
  const inTask = list === 'tasks' && typeof index === 'number'
  const path = (inTask ? rest : issue.path).map(String)
  const position = inTask ? { index } : {}
  if (issue.code !== 'unrecognized_keys') {
    return [{ ...position, path: path.join('.'), code: 'invalid-shape', message: issue.message }]
  }
  return issue.keys.slice(0, listedIssues).map((key) => ({
    ...position,
    path: [...path, key].join('.'),
    code: 'unknown-property',
    message: `unknown property ${showValue(key)}`,
  }))
}
