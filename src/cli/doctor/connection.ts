// What a connection string alone tells, before anything is connected. Its value is never shown: it holds a password.
import { placeOf } from '../../db/redact.ts'
import { failure, ok, warning, type Verdict } from './finding.ts'

const form = 'postgres://user:password@host:5432/database'

/** Wrong beginnings that people paste, and what to do about each. */
const pasted: readonly (readonly [RegExp, string])[] = [
  [/^psql\s/, 'begins with the command psql: keep only what stands between the quotes'],
  [/^["']/, 'begins with a quotation mark: leave the quotation marks out'],
  [/^\s|\s$/, 'begins or ends with a space or a line break: leave it out'],
  [/^jdbc:/, `is a JDBC URL: write it as ${form}`],
  [/^prisma(\+postgres)?:/, `is Prisma's own URL: take the direct one, ${form}`],
  [/^(https?|mysql|mariadb|mongodb|redis):/, `is a URL of something else: give ${form}`],
  [/^\{/, 'is JSON, as RDS keeps it: the functions read that, the command needs a URL'],
  [/\b(host|dbname|user)\s*=/, `is a list of keywords as psql takes it: write it as ${form}`],
  [
    /^arn:|^\/[\w/-]+$/,
    'names a secret or a parameter: the functions fetch that, the command needs the URL itself',
  ],
]

/** Whether a connection can be tried at all comes first: a `failure` ends the examination. */
export function checkConnectionString(connectionString: string): Verdict[] {
  const mistake = pasted.find(([pattern]) => pattern.test(connectionString))
  if (mistake !== undefined) return [failure(`The connection string ${mistake[1]}.`)]
  if (!/^postgres(ql)?:\/\//.test(connectionString)) {
    return [failure(`The connection string is no URL of a Postgres database: give ${form}.`)]
  }
  const url = URL.parse(connectionString)
  if (url === null || (url.username === '' && connectionString.includes('@'))) {
    return [
      failure(
        'The connection string cannot be read: write characters such as / # ? @ in the password as %2F %23 %3F %40.',
      ),
    ]
  }
  const hints = [neonHint(url), encryptionHint(url), poolerHint(url)].filter((hint) => hint !== undefined)
  const warnings = hints.filter(({ level }) => level === 'warning')
  if (warnings.length > 0) return warnings
  return hints.length > 0 ? hints : [ok(`${placeOf({ connectionString })}, without a pooler`)]
}

const isNeon = (url: URL) => url.hostname.endsWith('.neon.tech')
const isNeonPooler = (url: URL) => isNeon(url) && url.hostname.includes('-pooler.')

function neonHint(url: URL): Verdict | undefined {
  if (!isNeon(url)) return undefined
  if (isNeonPooler(url) && url.searchParams.get('channel_binding') === 'require') {
    // https://github.com/neondatabase/neon/issues/12897
    return warning(
      'Neon: channel_binding=require on the pooled host can keep a suspended compute from waking over TCP: take that parameter out if izta/pg uses this string. izta/neon (HTTP) does not read it.',
    )
  }
  return isNeonPooler(url)
    ? undefined
    : ok(
        'Neon, direct host: right for izta/neon (HTTP). For izta/pg take the pooled host, with -pooler in its name.',
      )
}

function encryptionHint(url: URL): Verdict | undefined {
  const mode = url.searchParams.get('sslmode')
  const isEncrypted =
    url.searchParams.has('ssl') || (mode !== null && !['disable', 'allow', 'prefer'].includes(mode))
  // Neon's own driver speaks HTTPS.
  if (isEncrypted || isNeon(url) || isLocal(url.hostname)) return undefined
  return warning(
    `${url.hostname}: ${mode === null ? 'no sslmode is given' : `sslmode=${mode}`}, so password and payloads travel unencrypted: add sslmode=verify-full.`,
  )
}

const isLocal = (host: string) => ['', 'localhost', '127.0.0.1', '[::1]'].includes(host)

const isPooler = (url: URL) =>
  isNeonPooler(url) ||
  ['6432', '6543'].includes(url.port) ||
  /pgbouncer|pooler/.test(url.hostname) ||
  url.searchParams.has('pgbouncer')

/** Whether something between functions and server shares its connections: a pooler, or Neon's HTTP. */
export function sharesConnections(connectionString: string): boolean {
  const url = URL.parse(connectionString)
  return url !== null && (isPooler(url) || isNeon(url))
}

function poolerHint(url: URL): Verdict | undefined {
  if (!isPooler(url)) return undefined
  // https://supabase.com/docs/guides/database/connecting-to-postgres
  if (url.hostname.endsWith('.pooler.supabase.com') && url.port !== '6543') {
    return warning(
      `Supabase, port ${url.port || '5432'}: the pooler keeps a database connection for each client here: take port 6543, transaction mode.`,
    )
  }
  return ok('through a pooler: izta needs no session state, so transaction mode is right')
}
