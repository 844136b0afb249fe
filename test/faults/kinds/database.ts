// Faults of the database: it ends, restarts, fills up, refuses, falls behind in time, and changes under the load.
import { setTimeout as sleep } from 'node:timers/promises'
import { user } from '../server.ts'
import { withAdmin, type Inject, type Kind } from './kind.ts'

const endSessions = 'select pg_terminate_backend(pid) from pg_stat_activity where usename = $1'

/** Every so many statements that change tasks fail with this SQLSTATE for a while. */
const trouble =
  (sqlState: string): Inject =>
  (target, random) =>
    withAdmin(target, async (admin) => {
      const lastsMs = random.between(200, 900)
      await admin.query(
        `insert into ledger.trouble (sqlstate, share, until_at)
        values ($1, $2, clock_timestamp() + $3 * interval '1 ms')`,
        [sqlState, random.pick([0.3, 0.7, 1]), lastsMs],
      )
      await sleep(lastsMs)
      await admin.query('delete from ledger.trouble where until_at < clock_timestamp()')
      return true
    })

/** Whatever happens meanwhile: nothing would end the fault otherwise. */
async function insist(work: () => Promise<unknown>): Promise<void> {
  for (let isOver = false; !isOver;) {
    isOver = await work().then(
      () => true,
      () => false,
    )
  }
}

/** The user under test has a role with a trait for a while; every session begins anew with it. */
const trait =
  (traits: readonly string[], normal: string): Inject =>
  async (target, random) => {
    const alter = (clause: string | undefined) =>
      withAdmin(target, async (admin) => {
        await admin.query(`alter role ${user} ${clause}`)
        await admin.query(endSessions, [user])
      })
    await alter(random.pick(traits))
    await sleep(random.between(200, 1200))
    await insist(() => alter(normal))
    return true
  }

export const databaseKinds = {
  'backend-terminated': {
    weight: 4,
    what: '`pg_terminate_backend` of two sessions',
    inject: (target) =>
      withAdmin(target, async (admin) => {
        const { rowCount } = await admin.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where usename = $1 order by random() limit 2`,
          [user],
        )
        return (rowCount ?? 0) > 0
      }),
  },
  'statement-cancelled': {
    weight: 4,
    what: '`pg_cancel_backend` of every session',
    inject: (target) =>
      withAdmin(target, async (admin) => {
        const { rowCount } = await admin.query(
          `select pg_cancel_backend(pid) from pg_stat_activity where usename = $1`,
          [user],
        )
        return (rowCount ?? 0) > 0
      }),
  },
  'statement-timeout': {
    weight: 2,
    atOnce: 1,
    apart: 'server',
    what: '`statement_timeout` of 2 to 10 ms for up to 1.2 s',
    inject: trait(
      ['2ms', '4ms', '10ms'].map((value) => `set statement_timeout = '${value}'`),
      'reset statement_timeout',
    ),
  },
  'strict-isolation': {
    weight: 2,
    atOnce: 1,
    apart: 'server',
    what: 'sessions are `repeatable read` or `serializable` for up to 1.2 s, and fail with 40001',
    inject: trait(
      ['repeatable read', 'serializable'].map((value) => `set default_transaction_isolation = '${value}'`),
      'reset default_transaction_isolation',
    ),
  },
  'serialization-failure': {
    weight: 2,
    what: 'statements fail with 40001 for up to 0.9 s',
    inject: trouble('40001'),
  },
  'deadlock-error': { weight: 2, what: 'the same with 40P01', inject: trouble('40P01') },
  'statement-timeout-error': { weight: 1, what: 'the same with 57014', inject: trouble('57014') },
  'lock-timeout': { weight: 2, what: 'the same with 55P03', inject: trouble('55P03') },
  'disk-full-error': { weight: 1, what: 'the same with 53100', inject: trouble('53100') },
  'read-only': { weight: 2, what: 'the same with 25006, as after a failover', inject: trouble('25006') },
  'disk-full': {
    weight: 2,
    atOnce: 1,
    apart: 'server',
    what: 'the disk that holds the tasks is full for up to 1.5 s, while large tasks come in',
    async inject(target, random) {
      const { disk } = target.server
      if (disk === undefined) return false
      await disk.fill()
      try {
        for (let n = 0; n < 3; n++) target.clients.send({ troublemaker: 'bulky' })
        await sleep(random.between(400, 1500))
      } finally {
        await disk.relieve()
      }
      return true
    },
  },
  'rows-locked': {
    weight: 4,
    atOnce: 2,
    what: 'a stranger locks six tasks one by one, against the order of izta, which makes deadlocks',
    inject: (target, random) =>
      withAdmin(target, async (admin) => {
        await admin.query(`begin; set local deadlock_timeout = '3s'`)
        for (let n = 0; n < 6; n++) {
          await admin.query(
            `select from izta.task where run_at < izta.now() + interval '10 seconds'
            order by id desc offset ${n * 3} limit 1 for update`,
          )
          await sleep(random.between(5, 60))
        }
        await admin.query('rollback')
        return true
      }).catch(() => true),
  },
  'out-of-connections': {
    weight: 2,
    atOnce: 1,
    apart: 'server',
    what: 'every session ends, and none or two may connect for up to 1.2 s',
    inject: trait(
      [0, 1, 2].map((sessions) => `connection limit ${sessions}`),
      'connection limit -1',
    ),
  },
  'database-crash': {
    weight: 0.4,
    atOnce: 1,
    apart: 'server',
    what: 'SIGKILL of a server process: the database recovers from its log',
    inject: async (target) => {
      const killed = await withAdmin(target, async (admin) => {
        const { rows } = await admin.query<{ pid: number }>(
          'select pid from pg_stat_activity where usename = $1 limit 1',
          [user],
        )
        const pid = rows[0]?.pid
        return pid !== undefined && process.kill(pid, 'SIGKILL')
      })
      await withAdmin(target, async () => undefined)
      return killed
    },
  },
  'database-restart': {
    weight: 0.4,
    atOnce: 1,
    apart: 'server',
    what: 'immediate shutdown and start',
    inject: async ({ server }) => {
      await server.restart()
      return true
    },
  },
  'clock-behind': {
    weight: 1,
    atOnce: 1,
    apart: 'server',
    what: 'every session ends, and the database goes on with a clock that is up to 1.5 s behind, as after a failover',
    // While nobody is connected: no statement sees two clocks.
    inject: async (target, random) => {
      const behindMs = random.between(100, 1500)
      const fallBehind = () =>
        withAdmin(target, async (admin) => {
          await admin.query(`alter role ${user} connection limit 0`)
          for (let isAlone = false; !isAlone;) {
            await admin.query(endSessions, [user])
            const { rows } = await admin.query('select from pg_stat_activity where usename = $1', [user])
            isAlone = rows.length === 0
          }
          await admin.query(`update ledger.clock set behind = behind + $1 * interval '1 ms'`, [behindMs])
        })
      const admit = () => withAdmin(target, (admin) => admin.query(`alter role ${user} connection limit -1`))
      try {
        await fallBehind()
      } finally {
        await insist(admit)
      }
      return true
    },
  },
  migration: {
    weight: 1,
    atOnce: 1,
    what: 'the next migration adds a column and an index to both tables, under load, and another takes them back',
    inject: async ({ server }, random) => {
      await server.migrate()
      await sleep(random.between(0, 500))
      return true
    },
  },
} as const satisfies Record<string, Kind>
