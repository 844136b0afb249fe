// Refuses at once what is no connection string, without showing it: it may hold a password.
import { DefinitionError } from '../errors.ts'
import { showValue } from '../options.ts'

/** @throws {DefinitionError} when the value is empty, no text or no URL of a Postgres database. */
export function assertConnectionString(what: string, value: unknown): asserts value is string {
  if (value === undefined || value === null || value === '') {
    throw new DefinitionError(
      `${what}; got ${value === '' ? 'an empty text' : String(value)}: is the environment variable set?`,
    )
  }
  if (typeof value !== 'string') throw new DefinitionError(`${what}; got ${showValue(value)}.`)
  const url = URL.parse(value)
  // An unencoded `/`, `#` or `?` in the password moves the `@` out of the user's part.
  const isReadable =
    url !== null && /^postgres(ql)?:$/.test(url.protocol) && (url.username !== '' || !value.includes('@'))
  if (isReadable) return
  throw new DefinitionError(
    `${what}; got text that is no postgres:// URL: percent-encode # / @ : ? of a password.`,
  )
}
