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
