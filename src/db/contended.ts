// Tries again while others change the very rows that a statement has to see and to change as one.
import { IztaError } from '../errors.ts'

const mostRounds = 10

/** Repeats `round` while it returns undefined, which says that something has changed hands at that moment. */
export async function whileContended<Result>(
  round: () => Promise<Result | undefined>,
  giveUp: () => Error,
): Promise<Result> {
  for (let rounds = 1; rounds <= mostRounds; rounds++) {
    const result = await round()
    if (result !== undefined) return result
  }
  throw giveUp()
}

/** For replies that say `contended` when the statement left rows alone that had changed since it began. */
export function untilUncontended<Reply extends { readonly contended: boolean }>(
  what: string,
  send: () => Promise<Reply>,
): Promise<Reply> {
  return whileContended(
    async () => {
      const reply = await send()
      return reply.contended ? undefined : reply
    },
    () =>
      new IztaError(
        'contended',
        `${what} met other changes of the same schedules ${mostRounds} times: try again.`,
        { retryable: true },
      ),
  )
}
