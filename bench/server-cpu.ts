// CPU time of the whole PostgreSQL server: steadier than seconds on a machine that others use. Linux only.
import { readdir, readFile } from 'node:fs/promises'
import type { Client } from 'pg'

/** Clock ticks of /proc, a hundredth of a second on every Linux. */
const microsPerTick = 10_000

/** Microseconds since the server's start, of the processes it has and of those that have ended; NaN elsewhere. */
export async function serverCpuMicros(database: Client): Promise<number> {
  const { rows } = await database.query<{ pid: number }>('select pg_backend_pid() as pid')
  const backend = await readStat(`${rows[0]?.pid}`)
  if (backend === undefined) return NaN
  const stats = await Promise.all((await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(readStat))
  let ticks = 0
  for (const stat of stats) {
    if (stat?.pid === backend.parent) ticks += stat.own + stat.ended
    else if (stat?.parent === backend.parent) ticks += stat.own
  }
  return ticks * microsPerTick
}

async function readStat(pid: string) {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  // The name in parentheses may hold spaces: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
  const [, parent, , , , , , , , , , user, system, endedUser, endedSystem] = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
  return {
    pid: Number(pid),
    parent: parent ?? NaN,
    own: (user ?? NaN) + (system ?? NaN),
    ended: (endedUser ?? NaN) + (endedSystem ?? NaN),
  }
}

/**
 * Reads the microseconds that the server spent on the connections to the watcher's database, its own connection left
 * out: what the scheduler of the operating system has counted for their processes. One that has ended counts with what
 * was last seen of it. NaN where there is no /proc.
 */
export function backendMeter(watcher: Client): () => Promise<number> {
  const seen = new Map<number, number>()
  return async () => {
    const { rows } = await watcher.query<{ pid: number }>(
      `select pid from pg_stat_activity
       where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`,
    )
    const micros = await Promise.all(rows.map(({ pid }) => readSchedule(pid)))
    for (const [index, { pid }] of rows.entries()) {
      const value = micros[index]
      if (value !== undefined) seen.set(pid, value)
    }
    const canRead = rows.length === 0 || micros.some((value) => value !== undefined)
    return canRead ? seen.values().reduce((sum, value) => sum + value, 0) : NaN
  }
}

/** Time on a processor, the first of three numbers: https://docs.kernel.org/scheduler/sched-stats.html */
async function readSchedule(pid: number): Promise<number | undefined> {
  const text = await readFile(`/proc/${pid}/schedstat`, 'utf8').catch(() => undefined)
  return text === undefined ? undefined : Number(text.split(' ')[0]) / 1000
}
