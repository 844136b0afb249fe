// Days of arrivals: when tasks are enqueued, when they are due and how long they run.
import { createRandom, type Random } from './random.ts'

export interface Arrival {
  readonly atMs: number
  /** Due so long after the enqueue. */
  readonly delayMs: number
  readonly durationMs: number
  /** Enqueued by plain SQL or in a transaction that nobody follows with a wake. */
  readonly silent: boolean
}

export interface Profile {
  readonly name: string
  readonly title: string
  arrivals(random: Random): Arrival[]
}

const secondMs = 1000
const minuteMs = 60 * secondMs
const hourMs = 60 * minuteMs
export const dayMs = 24 * hourMs

/** Half of the tasks run for less than the median, one of a hundred about ten times as long, a few up to 50 s. */
const duration = (random: Random, medianMs = 300) => Math.min(50 * secondMs, random.logNormal(medianMs, 1))

/** Arrivals at random, at a rate that changes through the day. */
function stream(
  random: Random,
  perHour: (hour: number) => number,
  make: (atMs: number) => Arrival,
): Arrival[] {
  const highest = Math.max(...Array.from({ length: 24 }, (_, hour) => perHour(hour)))
  const arrivals: Arrival[] = []
  for (let atMs = random.exponential(hourMs / highest); atMs < dayMs;) {
    if (random.next() < perHour(Math.floor(atMs / hourMs)) / highest) arrivals.push(make(atMs))
    atMs += random.exponential(hourMs / highest)
  }
  return arrivals
}

const officeHours = (hour: number) => (hour >= 8 && hour < 18 ? 1 : hour >= 6 && hour < 22 ? 0.2 : 0.01)

export const profiles: readonly Profile[] = [
  {
    name: 'quiet',
    title: '150 tasks in office hours, one of ten due within an hour of its enqueue',
    arrivals: (random) =>
      stream(
        random,
        (hour) => 14 * officeHours(hour),
        (atMs) => ({
          atMs,
          delayMs: random.next() < 0.1 ? random.between(0, hourMs) : 0,
          durationMs: duration(random),
          silent: false,
        }),
      ),
  },
  {
    name: 'office',
    title: '5,000 tasks, mostly in office hours; one of five due later, 20 minutes in the mean',
    arrivals: (random) =>
      stream(
        random,
        (hour) => 460 * officeHours(hour),
        (atMs) => ({
          atMs,
          delayMs: random.next() < 0.2 ? random.exponential(20 * minuteMs) : 0,
          durationMs: duration(random),
          silent: false,
        }),
      ),
  },
  {
    name: 'transactions',
    title: '1,000 tasks in office hours, enqueued inside transactions that no wake follows',
    arrivals: (random) =>
      stream(
        random,
        (hour) => 92 * officeHours(hour),
        (atMs) => ({ atMs, delayMs: 0, durationMs: duration(random), silent: true }),
      ),
  },
  {
    name: 'bursts',
    title: '30 bursts at random, of 20 to some thousand tasks within seconds; slow tasks (median 1 s)',
    arrivals: (random) =>
      Array.from({ length: 30 }, () => {
        const atMs = random.between(0, dayMs - hourMs)
        const tasks = Math.min(3000, Math.round(20 / (1 - random.next()) ** 1.2))
        return Array.from({ length: tasks }, () => ({
          atMs: atMs + random.exponential(3 * secondMs),
          delayMs: 0,
          durationMs: duration(random, secondMs),
          silent: false,
        }))
      }).flat(),
  },
  {
    name: 'reminders',
    title: '3,000 tasks enqueued through the day, each due at its own second within the next six hours',
    arrivals: (random) =>
      stream(
        random,
        () => 125,
        (atMs) => ({
          atMs,
          delayMs: random.between(0, 6 * hourMs),
          durationMs: duration(random),
          silent: false,
        }),
      ),
  },
  {
    name: 'steady stream',
    title: '20,000 tasks around the clock',
    arrivals: (random) =>
      stream(
        random,
        () => 833,
        (atMs) => ({ atMs, delayMs: 0, durationMs: duration(random), silent: false }),
      ),
  },
]

export function arrivalsOf(profile: Profile, seed: number, share = 1): Arrival[] {
  const arrivals = profile.arrivals(createRandom(seed)).toSorted((a, b) => a.atMs - b.atMs)
  return arrivals.filter(({ atMs, delayMs }) => atMs + delayMs < dayMs && atMs < dayMs * share)
}
