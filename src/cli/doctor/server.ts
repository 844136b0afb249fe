// Checks of `izta doctor` on the server, its user and izta's tables: pure functions from facts to verdicts.
import { defaults } from '../../defaults.ts'
import type { Holder, ServerFacts } from '../../store/health-server.ts'
import { quotedSchema, type Facts } from './facts.ts'
import { count, failure, ok, size, some, span, warning, type Verdict } from './finding.ts'

/** Where a verdict turns. */
export const serverLimits = {
  oldestVersion: 14,
  slowStatementMs: 250,
  skewMs: 5000,
  /** AWS refuses signatures that are older: https://docs.aws.amazon.com/general/latest/gr/signature-v4-troubleshooting.html */
  signatureMs: 300_000,
  /** For what holds the xmin horizon; standbys and slots tell no time. */
  heldSeconds: 300,
  heldTransactions: 1_000_000,
  /** Five times what makes autovacuum start on izta.task. */
  deadRows: 50_000,
  bloatBytes: 64 * 1024 ** 2,
  bloatBytesPerRow: 16 * 1024,
} as const

type Check = (facts: Facts) => readonly Verdict[]

export function checkDatabase({ statementMs, server }: Facts): Verdict[] {
  if (statementMs === undefined) return []
  const took = `a statement takes ${statementMs < 10 ? statementMs.toFixed(1) : Math.round(statementMs)} ms from here`
  const verdict =
    statementMs < serverLimits.slowStatementMs
      ? ok(`reached; ${took}`)
      : warning(`Reached, but ${took}: runners beside the database, in its region, are what counts.`)
  if (server?.readOnly !== true) return [verdict]
  return [verdict, failure('The database takes no writes (a replica, or read only): connect to the primary.')]
}

export function checkVersion({ server }: Facts): Verdict[] {
  if (server === undefined) return []
  const { version, versionNumber } = server
  const { oldestVersion } = serverLimits
  return versionNumber >= oldestVersion * 10_000
    ? [ok(`PostgreSQL ${version}`)]
    : [failure(`PostgreSQL ${version} is too old: izta needs ${oldestVersion} or newer.`)]
}

export function checkDurability({ server }: Facts): Verdict[] {
  if (server === undefined) return []
  if (server.keepsCommits) return [ok('a task that was accepted survives a crash of the server')]
  return [
    warning(
      `synchronous_commit is off for ${server.user}: a crash of the server forgets tasks that were accepted, and outcomes, so that handlers run again. Turn it on: alter role "${server.user}" set synchronous_commit = on.`,
    ),
  ]
}

export function checkUser({ server, schemaName }: Facts): Verdict[] {
  if (server === undefined) return []
  const { user, superuser, superuserOwner, owned } = server
  const advice = 'give izta a user of its own that may use only its schema'
  const verdicts: Verdict[] = []
  if (superuser)
    verdicts.push(
      warning(`${user} is a superuser: anyone who obtains the secret controls the server; ${advice}.`),
    )
  else if (owned.length > 0)
    verdicts.push(
      warning(`${user} also owns ${some(owned)}, besides ${schemaName}: for production ${advice}.`),
    )
  if (superuserOwner !== undefined)
    verdicts.push(
      warning(
        `${superuserOwner} owns izta's tables and is a superuser, and izta's functions run with their owner's rights: for production migrate a new schema as a user that is no superuser, or change the owner of the schema, its tables and its functions.`,
      ),
    )
  return verdicts.length > 0 ? verdicts : [ok(`${user}, without rights that izta does not need`)]
}

export function checkPrivileges({ missingPrivileges, server, schema, schemaName }: Facts): Verdict[] {
  if (missingPrivileges === undefined || server === undefined) return []
  if (missingPrivileges.length === 0)
    return schema === undefined || schema.applied.length === 0 ? [] : [ok('all that izta needs')]
  if (server.groupRoles.length > 0 && !server.groupRoles.includes('run'))
    return [onPurpose(server, schemaName)]
  const grants = missingPrivileges.map((grant) => `grant ${grant} to "${server.user}"`)
  return [failure(`${server.user} lacks privileges; as the owner run: ${grants.join('; ')}`)]
}

/** Of a user who may not run tasks and need not: a member of a role that `izta migrate --roles` makes. */
function onPurpose({ user, groupRoles }: ServerFacts, schemaName: string): Verdict {
  const may = `${user} may only ${some(groupRoles)} (${some(groupRoles.map((role) => `${schemaName}_${role}`))})`
  return groupRoles.includes('read')
    ? ok(`${may}; what runners need is not examined`)
    : warning(`${may} and sees no tasks: for the other checks examine with the user of the runners.`)
}

export function checkClock({ skew, schedules }: Facts): Verdict[] {
  if (skew === undefined) return []
  const verdicts: Verdict[] = []
  const { aheadMs, errorMs } = skew
  const side = aheadMs > 0 ? 'ahead of' : 'behind'
  const distance = `${(Math.abs(aheadMs) / 1000).toFixed(1)} s ${side} the database's`
  const precision = `give or take ${(errorMs / 1000).toFixed(1)} s`
  if (Math.abs(aheadMs) - errorMs < serverLimits.skewMs) {
    verdicts.push(ok(`this machine's clock is ${distance}, ${precision}`))
  } else {
    const also = Math.abs(aheadMs) < serverLimits.signatureMs ? '' : ', and AWS refuses signed calls'
    verdicts.push(
      warning(
        `This machine's clock is ${distance}, ${precision}: tasks with a runAt computed here are due at the wrong time${also}. Synchronise it (NTP).`,
      ),
    )
  }
  if (schedules !== undefined && Math.abs(schedules.clockMovedMs) > 1000) {
    verdicts.push(
      failure(
        `The schema's function now() is ${span(Math.abs(schedules.clockMovedMs) / 1000)} off the server's clock: a test clock was made in this database. Migrate a new database.`,
      ),
    )
  }
  return verdicts
}

export function checkMigrations({ schema, schemaName, server }: Facts): Verdict[] {
  if (schema === undefined || server === undefined) return []
  const { state, applied, pending, unknown } = schema
  const run = `run \`izta migrate${schemaName === defaults.schema ? '' : ` --schema ${schemaName}`}\``
  switch (state) {
    case 'not-migrated': {
      const who = server.mayCreateSchema
        ? ''
        : ` ${server.user} may not create schemas here: do it as the database's owner.`
      return [failure(`Schema ${schemaName} is not migrated: ${run}.${who}`)]
    }
    case 'pending':
      return [failure(`Schema ${schemaName} lacks ${pending.join(', ')}: ${run}.`)]
    case 'too-new':
      return [
        failure(`A newer izta has applied ${unknown.join(', ')}: this version must not run. Update izta.`),
      ]
    case 'current':
      return unknown.length > 0
        ? [warning(`A newer izta has applied ${unknown.join(', ')}: this version still runs. Update izta.`)]
        : [ok(`schema ${schemaName}, ${applied.at(-1)}`)]
  }
}

export function checkHorizon({ holders, server }: Facts): Verdict[] {
  if (holders === undefined) return []
  const old = holders.filter(({ seconds, transactions = 0 }) =>
    seconds === undefined
      ? transactions >= serverLimits.heldTransactions
      : seconds >= serverLimits.heldSeconds,
  )
  if (old.length > 0) return old.map((holder) => warning(describe(holder)))
  const oldest = holders.find(({ seconds }) => seconds !== undefined)?.seconds ?? 0
  const blind =
    server?.seesSessions === false
      ? ' (sessions of other users are hidden: grant pg_read_all_stats to see them)'
      : ''
  return [ok(`oldest transaction ${span(oldest)}${blind}`)]
}

function describe({ kind, name, seconds = 0, transactions = 0 }: Holder): string {
  const behind = `${count(transactions, 'transaction')} behind`
  const old = `${span(seconds)} old`
  const why = 'so that no row deleted since can be removed'
  switch (kind) {
    case 'transaction':
      return `The transaction of ${name} is ${old}, ${why}: end it, and set idle_in_transaction_session_timeout.`
    case 'standby':
      return `The standby of ${name} is ${behind}, ${why}: end its long queries, or turn its hot_standby_feedback off.`
    case 'slot':
      return `Replication slot ${name} is ${behind}, ${why}: bring its consumer back, or drop the slot.`
    case 'prepared':
      return `Prepared transaction ${name} is ${old}, ${why}: run commit prepared or rollback prepared.`
  }
}

export function checkDeadRows({ tables, server, schemaName }: Facts): Verdict[] {
  const task = tables?.get('task')
  if (task === undefined) return []
  const name = `${quotedSchema(schemaName)}.task`
  const verdicts: Verdict[] = []
  if (server?.vacuums === false)
    verdicts.push(failure('autovacuum or track_counts is off, so dead rows are never removed: turn both on.'))
  if (task.dead >= serverLimits.deadRows && task.dead > task.live)
    verdicts.push(
      warning(
        `${name} has ${count(task.dead, 'dead row')} beside ${count(task.live, 'live one')}: vacuum is behind or held up (see xmin horizon). Run: vacuum ${name}`,
      ),
    )
  const bytes = task.tableBytes + task.indexBytes
  if (bytes >= serverLimits.bloatBytes && bytes > (task.live + task.dead) * serverLimits.bloatBytesPerRow)
    verdicts.push(
      warning(
        `${name} takes ${size(bytes)} for ${count(task.live + task.dead, 'row')}: when it is quiet run: vacuum full ${name}`,
      ),
    )
  return verdicts.length > 0
    ? verdicts
    : [ok(`${count(task.dead, 'dead row')} beside ${count(task.live, 'live one')}`)]
}

/** In the order in which they are printed. */
export const serverChecks: Readonly<Record<string, Check>> = {
  database: checkDatabase,
  version: checkVersion,
  durability: checkDurability,
  user: checkUser,
  privileges: checkPrivileges,
  clock: checkClock,
  schema: checkMigrations,
  'xmin horizon': checkHorizon,
  'dead rows': checkDeadRows,
}
