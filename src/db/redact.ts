// What of a connection and of a driver's error may be shown: never a password, nor a row's values.

/** A connection's host, port and database name: all of it that may stand in a message. */
export function placeOf(connection: {
  readonly connectionString?: string | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly database?: string | undefined
}): string {
  if (connection.connectionString !== undefined) {
    const { connectionString } = connection
    const url = URL.parse(connectionString)
    // An unencoded `/`, `#` or `?` in the password moves the rest of it, and the `@`, out of the user's part.
    const isReadable =
      url !== null && url.host !== '' && (url.username !== '' || !connectionString.includes('@'))
    return isReadable ? `${url.host}${url.pathname}` : 'the given connection string'
  }
  const { host = 'localhost', port = 5432, database } = connection
  return `${host}:${port}${database === undefined ? '' : `/${database}`}`
}

/** Drivers quote the connection string when they cannot read it, and what is not a URL has no known end. */
export function redact(text: string): string {
  return text.replace(/(postgres(?:ql)?:\/\/|connection string: ).*/gis, '$1***')
}

/** What of a driver's message may be shown. Data exceptions (class 22) quote the value that they refuse. */
export function shownMessage(error: unknown): string {
  const message = redact(messageOf(error))
  const state = fieldOf(error, 'code')
  return typeof state === 'string' && /^22[0-9A-Z]{3}$/.test(state)
    ? message.replace(/"[^]*"/, '"***"')
    : message
}

/** Of the context only where in which function: other lines quote parameters, JSON data and statements. */
function shownContext(where: string): string {
  const lines = where.split('\n').filter((line) => /^(PL\/pgSQL|SQL) function /.test(line))
  return lines.join('\n')
}

/** A copy with the fields that help; the original can hold the client, the connection string or a row's values. */
export function withoutSecrets(error: unknown): Error {
  const message = messageOf(error)
  const copy = new Error(shownMessage(error))
  if (error instanceof Error) {
    copy.name = error.name
    copy.stack = redact((error.stack ?? message).replace(message, () => copy.message))
  }
  const fields = [
    'code',
    'severity',
    'hint',
    'position',
    'where',
    'schema',
    'table',
    'column',
    'constraint',
    'routine',
  ]
  for (const field of fields) {
    const value = fieldOf(error, field)
    if (typeof value !== 'string') continue
    const shown = field === 'where' ? shownContext(value) : value
    if (shown !== '') Object.assign(copy, { [field]: redact(shown) })
  }
  return copy
}

export function fieldOf(error: unknown, field: string): unknown {
  return typeof error === 'object' && error !== null ? Reflect.get(error, field) : undefined
}

export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message
  // An event without a reason: https://websockets.spec.whatwg.org/#feedback-from-the-protocol
  return fieldOf(error, 'type') === 'error' ? 'the WebSocket failed' : String(error)
}
