// Faults of the way between a client and its database, over TCP and over HTTP.
import type { HttpFault } from '../neon.ts'
import type { Cut } from '../proxy.ts'
import type { Inject, Kind } from './kind.ts'

const cut =
  (fault: Cut): Inject =>
  async ({ proxies }, random) => {
    const delayMs = fault === 'stalled-answer' ? random.between(300, 2500) : random.between(50, 900)
    return (await random.pick(proxies)?.arm(fault, delayMs)) ?? false
  }

const http =
  (fault: HttpFault): Inject =>
  ({ neon }, random) =>
    neon.arm(fault, fault === 'http-stalled' ? random.between(300, 2500) : random.between(50, 900))

export const networkKinds = {
  'cut-before': {
    weight: 12,
    what: 'the connection breaks before a statement arrives',
    inject: cut('cut-before'),
  },
  'cut-during': {
    weight: 12,
    what: 'the connection breaks while a statement runs or commits',
    inject: cut('cut-during'),
  },
  'cut-after': {
    weight: 14,
    what: 'the statement is applied, its answer is lost',
    inject: cut('cut-after'),
  },
  'late-copy': {
    weight: 10,
    what: 'the connection breaks, and the statement arrives up to 0.9 s later, beside its repeat',
    inject: cut('late-copy'),
  },
  'stalled-answer': {
    weight: 6,
    what: 'the answer is up to 2.5 s late; clients give up after 1.5 s',
    inject: cut('stalled-answer'),
  },
  'http-refused': {
    weight: 3,
    what: 'over HTTP: the connection breaks before the statement runs',
    inject: http('http-refused'),
  },
  'http-answer-dropped': {
    weight: 4,
    what: 'over HTTP: the answer is lost after the commit',
    inject: http('http-answer-dropped'),
  },
  'http-answer-truncated': {
    weight: 3,
    what: 'over HTTP: half of the answer comes',
    inject: http('http-answer-truncated'),
  },
  'http-stalled': {
    weight: 3,
    what: 'over HTTP: the answer is up to 2.5 s late; clients give up after 1.5 s',
    inject: http('http-stalled'),
  },
  'http-doubled': {
    weight: 4,
    what: 'over HTTP: the statement runs twice at once',
    inject: http('http-doubled'),
  },
  'http-late': {
    weight: 4,
    what: 'over HTTP: the statement runs up to 0.9 s after the connection broke, beside its repeat',
    inject: http('http-late'),
  },
} as const satisfies Record<string, Kind>
