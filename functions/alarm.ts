// Sleepy mode's alarm, which runners and scheduler set; none in steady mode, where ticks find what is due.
import { alarmWake } from '../src/aws/alarm-wake.ts'
import { environment } from '../src/environment.ts'

const group = environment('IZTA_ALARM_GROUP')
const role = environment('IZTA_ALARM_ROLE')
const target = environment('IZTA_SCHEDULER')

export const alarm =
  group !== undefined && role !== undefined && target !== undefined
    ? alarmWake({ group, role, target, deadLetters: environment('IZTA_ALARM_DEAD_LETTERS') })
    : undefined
