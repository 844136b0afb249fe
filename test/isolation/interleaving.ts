// Runs the calls of several sessions in every order of their steps, as PostgreSQL's own isolationtester does.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'pg'
import type { Database } from '../../src/db/database.ts'
import { fieldOf } from '../../src/db/redact.ts'
import { createRandom, type Random } from '../faults/random.ts'
import { testDatabase, type TestDatabase, type TestDatabaseOptions } from '../support/database.ts'
import { onConnection, pidOf } from '../store/statements.ts'

export const isolations = ['read committed', 'repeatable read', 'serializable'] as const

/** What one session asks of the database, in a transaction of its own. */
export type Call<World> = (database: Database, world: World) => Promise<unknown>

/** A task where it is after all calls. */
export interface Found {
  readonly id: string
  /** `waiting` and `leased`: in the hot table; the others in the history. */
  readonly status: 'waiting' | 'leased' | 'finished' | 'failed' | 'cancelled'
  readonly lease: string | null
  readonly attempt: number
  readonly losses: number
  readonly claims: number
  readonly cancel: boolean
  readonly key: string | null
  /** Whether the task keeps others from its key. */
  readonly holdsKey: boolean
  readonly queue: string
  readonly slot: Date | null
}

/** How the calls of one order went. */
export interface Course {
  /** Every task, by id: each is in one place. */
  readonly tasks: ReadonlyMap<string, Found>
  /** The replies by session; undefined where the session rolled back. */
  readonly replies: Readonly<Record<string, unknown>>
  /** Whether the first session had committed when the second one began. */
  readonly precedes: (first: string, second: string) => boolean
}

export interface Spec<World> {
  /** The state that every order begins with; the tables are empty before. */
  readonly setup: () => Promise<World>
  /** By name. A session is one call and one commit, with a stop in between at each lock point that the call has. */
  readonly sessions: Readonly<Record<string, Call<World>>>
  /** Sessions that roll back in place of committing. */
  readonly rollBack?: readonly string[]
  /** Throws where the state or a reply is not as it must be. */
  readonly check: (world: World, course: Course) => Promise<void>
  /** How many orders to try of a spec that has more, and again with stops; drawn by the seed. @default 12 */
  readonly orders?: number
}

type StepKind = 'call' | 'go on' | 'end'
interface Step {
  readonly session: string
  readonly kind: StepKind
}
interface Gate {
  readonly session: string
  readonly point: string
}

/** Tries that the client's repeat allows itself, and more than any order needs. */
const attempts = 5
/** An advisory lock that stops a session at its lock point. */
const gateLock = 4711

// Each row that a call writes is a lock point: before it the locks of the statements so far are held, after it the row's.
// Only in sessions that were told of gates: what the setup and the checks write would fill `isolation.reached` for good.
const gates = `
create function public.stop_at_gate() returns trigger language plpgsql set search_path = pg_catalog as $gate$
declare
  v_reached constant text := current_setting('isolation.reached', true);
  v_point text := concat_ws(' ', lower(tg_when), lower(tg_op), 'of', tg_table_name);
begin
  -- Between two rows of one statement, too.
  if position(v_point in v_reached) > 0 then
    v_point := v_point || ' again';
  end if;
  perform set_config('isolation.reached', concat(v_reached, ',', v_point), false);
  if current_setting('isolation.gate', true) = v_point then
    perform pg_advisory_xact_lock_shared(${gateLock});
  end if;
  if tg_op = 'DELETE' then return old; end if;
  return new;
end
$gate$;
do $gates$
declare
  v_table text;
begin
  foreach v_table in array array['task', 'history', 'queue', 'schedule'] loop
    execute format('create trigger gate_before before insert or update or delete on izta.%I
      for each row when (current_setting(''isolation.gate'', true) is not null)
      execute function public.stop_at_gate()', v_table);
    execute format('create trigger gate_after after insert or update or delete on izta.%I
      for each row when (current_setting(''isolation.gate'', true) is not null)
      execute function public.stop_at_gate()', v_table);
  end loop;
end
$gates$`

const empty = `
with a as (delete from izta.task), b as (delete from izta.history), c as (delete from izta.queue)
delete from izta.schedule`

const everything = `
select id, case when lease is null then 'waiting' else 'leased' end as status, lease, attempt, losses, claims, cancel, key,
  key_until is not null and not key_freed as "holdsKey", queue, slot
from izta.task
union all
select id, status, null, attempt, losses, claims, false, key, false, queue, slot from izta.history`

/** Another seed draws other orders where there are too many for all; more effort tries more of them. */
const seed = Number(process.env['TEST_SEED'] ?? 1)
const effort = Number(process.env['TEST_EFFORT'] ?? 1)
const ordersTried = 12

/** Makes the database of a test file, with its lock points, and what runs specs in it. */
export async function isolationTester(
  isolation: NonNullable<TestDatabaseOptions['isolation']>,
): Promise<TestDatabase & { readonly run: <World>(spec: Spec<World>) => Promise<void> }> {
  const made = await testDatabase({ isolation })
  await made.pool.query(gates)
  // Whoever waits for each other is told at once, not after a second.
  await made.pool.query(`alter database ${made.name} set deadlock_timeout = '5ms'`)
  const controller = await made.connect()
  const idle: Member[] = []
  const random = createRandom(seed)

  async function member(): Promise<Member> {
    const known = idle.pop()
    if (known !== undefined) return known
    const client = await made.connect()
    return new Member(client, await pidOf(client))
  }

  /** Runs one order; returns the lock points that each session met. */
  async function runOrder<World>(spec: Spec<World>, order: readonly Step[], gate?: Gate) {
    const shown = describeOrder(order, gate)
    await controller.query(empty)
    const world = await spec.setup()
    if (gate !== undefined) await controller.query('select pg_advisory_lock($1)', [gateLock])
    const members = new Map<string, Member>()
    for (const name of Object.keys(spec.sessions)) members.set(name, await member())
    const events: string[] = []
    try {
      await Promise.all(
        [...members].map(([name, one]) => one.prepare(gate?.session === name ? gate.point : '')),
      )
      for (const { session, kind } of order) {
        const one = members.get(session)!
        if (kind === 'go on') await controller.query('select pg_advisory_unlock($1)', [gateLock])
        else if (kind === 'call') {
          one.do(async () => {
            events.push(`${session} began`)
            await one.begin((database) => spec.sessions[session]!(database, world))
          })
        } else {
          one.do(async () => {
            await one.end(spec.rollBack?.includes(session) === true)
            events.push(`${session} ended`)
          })
        }
        await untilQuiet(controller, [...members.values()])
      }
      await untilDone(controller, [...members.values()])
      const precedes = (first: string, second: string) =>
        events.indexOf(`${first} ended`) < events.indexOf(`${second} began`)
      const replies = Object.fromEntries([...members].map(([name, one]) => [name, one.reply]))
      const { rows } = await controller.query<Found>(everything)
      const tasks = new Map(rows.map((row) => [row.id, row]))
      if (tasks.size < rows.length) throw new Error(`a task is in two places: ${JSON.stringify(rows)}`)
      await spec.check(world, { tasks, replies, precedes })
      const reached: Gate[] = []
      if (gate === undefined) {
        const points = await Promise.all(
          [...members].map(async ([session, one]) =>
            (await one.reached()).map((point) => ({ session, point })),
          ),
        )
        reached.push(...points.flat())
      }
      return reached
    } catch (error) {
      throw new Error(`In the order ${shown}: ${String(error)}`, { cause: error })
    } finally {
      await controller.query('select pg_advisory_unlock_all()')
      await Promise.all([...members.values()].map((one) => one.reset()))
      idle.push(...members.values())
    }
  }

  async function run<World>(spec: Spec<World>): Promise<void> {
    const names = Object.keys(spec.sessions)
    const most = (spec.orders ?? ordersTried) * effort
    // Sessions of one call are alike: it is enough that one of them stops at each lock point that any has met.
    const calls = Object.values(spec.sessions)
    const points = new Map<string, Gate>()
    for (const order of ordersOf(names, undefined, most, random)) {
      for (const met of await runOrder(spec, order)) {
        points.set(`${calls.indexOf(spec.sessions[met.session]!)} ${met.point}`, met)
      }
    }
    for (const gate of points.values()) {
      const orders = ordersOf(names, gate.session, Math.ceil(most / points.size), random)
      for (const order of orders) await runOrder(spec, order, gate)
    }
  }

  return { ...made, run }
}

/** A session: its connection, and the steps that wait for each other on it. */
class Member {
  reply: unknown
  readonly #client: Client
  readonly #database: Database
  #tail: Promise<void> = Promise.resolve()
  #pending = 0
  #refused = false
  #failure: Error | undefined
  #call: (database: Database) => Promise<unknown> = async () => undefined
  readonly pid: number

  constructor(client: Client, pid: number) {
    this.#client = client
    this.#database = onConnection(client)
    this.pid = pid
  }

  get isBusy(): boolean {
    return this.#pending > 0
  }
  get tail(): Promise<void> {
    return this.#tail
  }

  /** After the steps before it. */
  do(step: () => Promise<void>): void {
    this.#pending++
    this.#tail = this.#tail
      .then(step)
      .catch((error: unknown) => {
        this.#failure ??= error instanceof Error ? error : new Error(String(error))
      })
      .finally(() => {
        this.#pending--
      })
  }

  async prepare(gate: string): Promise<void> {
    this.reply = undefined
    this.#refused = false
    this.#failure = undefined
    await this.#client.query(
      `select set_config('isolation.gate', $1, false), set_config('isolation.reached', '', false)`,
      [gate],
    )
  }

  async begin(call: (database: Database) => Promise<unknown>): Promise<void> {
    this.#call = call
    await this.#client.query('begin')
    try {
      this.reply = await call(this.#database)
    } catch (error) {
      if (!isSerialization(error)) throw error
      this.#refused = true
    }
  }

  /** What the client does with 40001, the one error that it may meet: the call again. */
  async end(rollBack: boolean): Promise<void> {
    if (rollBack) {
      this.reply = undefined
      await this.#client.query('rollback')
      return
    }
    for (let attempt = 1; ; attempt++) {
      try {
        if (this.#refused) {
          await this.#client.query('rollback')
          await this.#client.query('begin')
          this.reply = await this.#call(this.#database)
          this.#refused = false
        }
        await this.#client.query('commit')
        return
      } catch (error) {
        if (!isSerialization(error) || attempt === attempts) throw error
        this.#refused = true
      }
    }
  }

  async reached(): Promise<string[]> {
    const { rows } = await this.#client.query<{ points: string }>(
      `select current_setting('isolation.reached') as points`,
    )
    return [...new Set(rows[0]!.points.split(',').filter((point) => point !== ''))]
  }

  throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  async reset(): Promise<void> {
    await this.#tail
    await this.#client.query('rollback')
  }
}

const isSerialization = (error: unknown) => fieldOf(error, 'code') === '40001'

const looks = 3000
/** Most steps are done by then, and a look costs the server as much as a step. */
const lookAfterMs = 1
const anyFree = `
select exists (select from unnest($1::integer[]) p(pid) where cardinality(pg_blocking_pids(p.pid)) = 0) as free`

/** Until every session has done its steps or waits for somebody's lock. */
async function untilQuiet(controller: Client, members: readonly Member[]): Promise<boolean> {
  for (let look = 0; look < looks; look++) {
    const busy = members.filter((one) => one.isBusy)
    if (busy.length === 0) return true
    await Promise.race([Promise.all(busy.map((one) => one.tail)), sleep(lookAfterMs)])
    if (busy.every((one) => !one.isBusy)) continue
    const { rows } = await controller.query<{ free: boolean }>(anyFree, [busy.map((one) => one.pid)])
    if (rows[0]!.free) continue
    if (busy.every((one) => one.isBusy)) return false
  }
  throw new Error('a session is neither done nor blocked')
}

/** After the last step everything comes to an end: who still waits now waits for ever, or in a circle. */
async function untilDone(controller: Client, members: readonly Member[]): Promise<void> {
  for (let look = 0; !(await untilQuiet(controller, members)); look++) {
    if (look === looks) throw new Error('a session waits for ever')
  }
  for (const one of members) one.throwFailure()
}

const stepsOf = (session: string, isGated: boolean): Step[] =>
  (isGated ? (['call', 'go on', 'end'] as const) : (['call', 'end'] as const)).map((kind) => ({
    session,
    kind,
  }))

/** More orders than this are not listed, but drawn. */
const ordersListed = 5000

/** Every order of the sessions' steps that is worth a run, or as many as asked for where there are more. */
function ordersOf(
  names: readonly string[],
  gated: string | undefined,
  most: number,
  random: Random,
): Step[][] {
  const all: Step[][] = []
  const extend = (order: Step[], left: readonly Step[][]): void => {
    if (all.length > ordersListed) return
    if (!meets(order, gated)) return
    if (left.every((steps) => steps.length === 0)) all.push(order)
    left.forEach(([next, ...rest], index) => {
      if (next !== undefined) extend([...order, next], left.with(index, rest))
    })
  }
  const steps = names.map((name) => stepsOf(name, name === gated))
  extend([], steps)
  if (all.length <= most) return all
  if (all.length <= ordersListed) return shuffled(all, random).slice(0, most)
  return Array.from({ length: most }, () => drawn(steps, random))
}

/** Whether another session does something while the gated one stands at its gate; the rest is tried without it. */
function meets(order: readonly Step[], gated: string | undefined): boolean {
  const stops = order.findIndex((step) => step.session === gated)
  return stops === -1 || order[stops + 1]?.session !== gated
}

function drawn(steps: readonly Step[][], random: Random): Step[] {
  const places = shuffled(
    steps.flatMap((own, index) => own.map(() => index)),
    random,
  )
  const left = steps.map((own) => own.values())
  return places.map((index) => left[index]!.next().value!)
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  return items
    .map((item) => ({ item, place: random.next() }))
    .toSorted((a, b) => a.place - b.place)
    .map(({ item }) => item)
}

const describeOrder = (order: readonly Step[], gate: Gate | undefined) =>
  order
    .map(({ session, kind }) =>
      kind === 'call' ? session : `${session} ${kind}s`.replace('go ons', 'goes on'),
    )
    .join(', ') + (gate === undefined ? '' : ` (${gate.session} stops ${gate.point})`)
