// The jobs of an instance by their id: two jobs must not share one.
import { DefinitionError } from '../errors.ts'
import { isImplemented, type AnyJob } from './job.ts'

/** Jobs by their id; `madeBy` is the function that was given them. @throws {DefinitionError} when two have the same. */
export function jobsById(madeBy: string, jobs: readonly AnyJob[]): Map<string, AnyJob> {
  const byId = new Map<string, AnyJob>()
  for (const job of jobs) {
    const other = byId.get(job.id)
    if (other !== undefined && !isSameJob(job, other)) {
      const who =
        other.name === job.name ? 'two jobs have' : `jobs "${other.name}" and "${job.name}" both have`
      throw new DefinitionError(
        `${madeBy}: ${who} the id "${job.id}", so one would run the other's tasks: give one of them another id.`,
      )
    }
    if (other === undefined || isImplemented(job)) byId.set(job.id, job)
  }
  return byId
}

/** The same object, or a definition beside its implementation, which shares its parts. */
function isSameJob(one: AnyJob, other: AnyJob): boolean {
  return one === other || (one.retention === other.retention && isImplemented(one) !== isImplemented(other))
}
