// The times of a cron expression on the wall clock. They are cron-parser's, which is asked here only.
import { CronExpressionParser } from 'cron-parser'
import { cachedIn } from './bounded-cache.ts'
import { cronText, isNthWeekday, parseCron, type CronFieldValues } from './cron.ts'

/** A wall clock is read as if it were UTC: its times are numbers of milliseconds, and no zone changes them. */
export interface CronTimes {
  /** Whether the expression names all 24 hours. */
  readonly everyHour: boolean
  /** The first time later than `after`. Every accepted expression has one. */
  next(after: number): number
}

const known = new Map<string, CronTimes>()

/** The times of a stored expression. */
export function timesOf(cron: string): CronTimes {
  return cachedIn(known, 200, cron, () => {
    const values = parseCron('Stored schedule rule', cron)
    const parts = partsOf(values).map(timesOfPart)
    return {
      everyHour: values.hours.length === 24,
      next: (after) => Math.min(...parts.map((next) => next(after))),
    }
  })
}

/** cron-parser takes `5#2` only where it is the whole field, so each makes an expression of its own. */
function partsOf(values: CronFieldValues): string[] {
  if (values.weekdays === undefined) return [cronText(values)]
  const lists = Map.groupBy(values.weekdays, (weekday) => (isNthWeekday(weekday) ? weekday : 'others'))
  return [...lists.values()].map((weekdays) => cronText({ ...values, weekdays }))
}

function timesOfPart(cron: string): CronTimes['next'] {
  // cron-parser never sees a zone: across changes of the clock it loses, doubles and refuses times.
  const expression = CronExpressionParser.parse(cron, { tz: 'UTC' })
  let from = Infinity
  let time = -Infinity
  return (after) => {
    // A rare time is searched for once, however often the other parts are asked before it comes.
    if (after < from || after >= time) {
      // The expression is shared, and an iterator: it is told where to go on from at each step.
      expression.reset(new Date(after))
      time = expression.next().getTime()
      from = after
    }
    return time
  }
}
