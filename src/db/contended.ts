// Sends a statement again while others are at work on the rows that it has to see and to change as one.
import { IztaError } from '../errors.ts'

const attempts = 10

/** For replies that say `contended` when the statement left rows alone that had changed since it began. */
export async function untilUncontended<Reply extends { readonly contended: boolean }>(
  what: string,
  send: () => Promise<Reply>,
): Promise<Reply> {
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const reply = await send()
    if (!reply.contended) return reply
  }
  throw new IztaError(
    'contended',
    `${what} met other changes of the same schedules ${attempts} times: try again.`,
    {
      retryable: true,
    },
  )
}
