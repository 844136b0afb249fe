// One of two jobs that enqueue each other across files.
import { defineJob } from 'izta'
import * as z from 'zod'
// oxlint-disable-next-line import/no-cycle -- which is the point
import { pong } from './pong.ts'

export const ping = defineJob({
  id: 'ping',
  payload: z.object({ left: z.number() }),
  run: ({ left }, ctx) => (left > 0 ? ctx.enqueue(pong, { left: left - 1 }) : undefined),
})
