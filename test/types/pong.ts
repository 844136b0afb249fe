// The other of two jobs that enqueue each other across files.
import { defineJob } from 'izta'
import * as z from 'zod'
// oxlint-disable-next-line import/no-cycle -- which is the point
import { ping } from './ping.ts'

export const pong = defineJob({
  id: 'pong',
  payload: z.object({ left: z.number() }),
  run: ({ left }, ctx) => (left > 0 ? ctx.enqueue(ping, { left: left - 1 }) : undefined),
})
