// Structured logs: a port that pino, Powertools and console-like loggers fit, and the default on the console.
import { AsyncLocalStorage } from 'node:async_hooks'
import { readableMessage } from '../errors.ts'

/** A logger: a sentence and its facts. */
export interface Logger {
  debug(message: string, facts?: Record<string, unknown>): void
  info(message: string, facts?: Record<string, unknown>): void
  warn(message: string, facts?: Record<string, unknown>): void
  error(message: string, facts?: Record<string, unknown>): void
}

/**
 * One JSON object a line on the console; `debug` only on demand.
 *
 * @param options debug: whether to write `debug` lines, default false
 */
export function consoleLogger(options: { debug?: boolean | undefined } = {}): Logger {
  const write =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (message: string, facts: object = {}) =>
      console[level](line(level, message, facts))
  return {
    debug: options.debug === true ? write('debug') : () => {},
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  }
}

/** A logger that adds the same facts to every line. */
export function withFacts(log: Logger, shared: Record<string, unknown>): Logger {
  return {
    debug: (message, facts) => log.debug(message, { ...shared, ...facts }),
    info: (message, facts) => log.info(message, { ...shared, ...facts }),
    warn: (message, facts) => log.warn(message, { ...shared, ...facts }),
    error: (message, facts) => log.error(message, { ...shared, ...facts }),
  }
}

/** Rewrites a text before a log line or a span quotes it. */
export type Redact = (text: string) => string

/** A logger whose every text passes through `redact` first: messages, and texts within the facts. */
export function redacted(log: Logger, redact: Redact): Logger {
  const write =
    (level: 'debug' | 'info' | 'warn' | 'error') => (message: string, facts?: Record<string, unknown>) =>
      log[level](
        redactedText(message, redact),
        facts && (redactedValue(facts, redact, []) as Record<string, unknown>),
      )
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
}

/** What cannot be redacted is left out: a line that is lost helps nobody, one that tells too much cannot be taken back. */
export function redactedText(text: string, redact: Redact): string {
  try {
    return String(redact(text))
  } catch {
    return '(left out: redact threw)'
  }
}

/** A copy: `within` are the objects around the value, which it may hold again. */
function redactedValue(value: unknown, redact: Redact, within: readonly object[]): unknown {
  if (typeof value === 'string') return redactedText(value, redact)
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  if (within.includes(value)) return '(contains itself)'
  const inner = (part: unknown) => redactedValue(part, redact, [...within, value])
  if (value instanceof Error) return inner({ name: value.name, message: value.message, stack: value.stack })
  if (Array.isArray(value)) return value.map(inner)
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, inner(part)]))
}

const scope = new AsyncLocalStorage<Record<string, unknown>>()

/** Every line that a scoped logger writes until `work` has ended carries these facts, whoever writes it. */
export const inLogScope = <T>(facts: Record<string, unknown>, work: () => T): T =>
  scope.run({ ...scope.getStore(), ...facts }, work)

/** A logger that adds the facts of the scope it is called in. */
export function scoped(log: Logger): Logger {
  const merged = (facts: Record<string, unknown> | undefined) => {
    const shared = scope.getStore()
    return shared === undefined ? facts : { ...shared, ...facts }
  }
  return {
    debug: (message, facts) => log.debug(message, merged(facts)),
    info: (message, facts) => log.info(message, merged(facts)),
    warn: (message, facts) => log.warn(message, merged(facts)),
    error: (message, facts) => log.error(message, merged(facts)),
  }
}

/** Facts that cannot be printed, such as cycles, must not fail the task that logs them. */
function line(level: string, message: string, facts: object): string {
  try {
    // Level and message stand first, and facts of these names do not replace them.
    return JSON.stringify(Object.assign({ level, message }, facts, { level, message }), readable)
  } catch (error) {
    return JSON.stringify({ level, message, factsNotPrinted: readableMessage(error) })
  }
}

function readable(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return `${value}n`
  if (value instanceof Error) return { name: value.name, message: value.message, stack: value.stack }
  return value
}
