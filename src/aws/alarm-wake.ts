// Alarms as one-shot schedules of EventBridge Scheduler, which invoke the scheduler function.
import { IztaError } from '../errors.ts'
import type { Alarm } from '../wake/wakes.ts'
import { createAwsApi, type AwsApi, type AwsError, type AwsOptions } from './api.ts'

/** What `alarmWake` takes. */
export interface AlarmWakeOptions extends AwsOptions {
  /** The schedule group that the alarms are written to. */
  group: string
  /** ARN of the scheduler function. */
  target: string
  /** ARN of the role that EventBridge Scheduler takes to invoke it. */
  role: string
  /** ARN of an SQS queue for alarms that could not be delivered; the role needs `sqs:SendMessage`. @default none */
  deadLetters?: string | undefined
  /** What the names of the alarms begin with; the minute follows. @default 'alarm-' */
  prefix?: string | undefined
  /** Replaces the signed calls, in tests. */
  api?: AwsApi | undefined
}

/**
 * Sets an alarm by creating a schedule that fires once and is deleted then. Its name is its minute, so that the second
 * who sets it finds it there. The caller's role needs `scheduler:CreateSchedule` in the group and `iam:PassRole` on
 * the role. EventBridge Scheduler fires within a minute of the instant:
 * https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
 *
 * @throws {AwsError} from `set`, after several tries.
 *
 * @example
 * ```ts
 * const alarm = alarmWake({
 *   group: 'app-prod',
 *   target: 'arn:aws:lambda:eu-central-1:111122223333:function:app-prod-scheduler',
 *   role: 'arn:aws:iam::111122223333:role/app-prod-alarms',
 * })
 * export const handler = createSchedulerHandler({ izta, alarm })
 * ```
 */
export function alarmWake(options: AlarmWakeOptions): Alarm {
  const { group, target, role, deadLetters, prefix = 'alarm-' } = options
  const api = options.api ?? createAwsApi(options)
  return {
    async set(at) {
      const minute = at.toISOString().slice(0, 16)
      const name = `${prefix}${minute.replaceAll(/[-:]/g, '')}`
      try {
        await api({
          service: 'scheduler',
          method: 'POST',
          path: `/schedules/${encodeURIComponent(name)}`,
          headers: { 'content-type': 'application/json' },
          body: {
            GroupName: group,
            ScheduleExpression: `at(${minute}:00)`,
            ScheduleExpressionTimezone: 'UTC',
            FlexibleTimeWindow: { Mode: 'OFF' },
            ActionAfterCompletion: 'DELETE',
            // Delivered late is better than not at all: nothing else may start what is due.
            Target: {
              Arn: target,
              RoleArn: role,
              Input: '{}',
              RetryPolicy: { MaximumRetryAttempts: 10, MaximumEventAgeInSeconds: 3600 },
              ...(deadLetters === undefined ? {} : { DeadLetterConfig: { Arn: deadLetters } }),
            },
          },
        })
      } catch (error) {
        if (!IztaError.is(error) || (error as AwsError).type !== 'ConflictException') throw error
      }
    },
  }
}
