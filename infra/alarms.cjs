// Alarms: errors, throttles and near timeouts of every function, and what izta's own metrics say of the queues
// (docs/telemetry.md lists those).
const minutes = 60

module.exports = async ({ resolveConfigurationProperty, resolveVariable }) => {
  const functions = await resolveConfigurationProperty(['functions'])
  const topics = await resolveVariable('self:custom.alarmTopics')
  const resources = Object.entries(functions).flatMap(([key, { name, timeout, reservedConcurrency }]) => {
    const id = key[0].toUpperCase() + key.slice(1)
    const alarm = (about, properties) => [
      `${id}${about}Alarm`,
      {
        Type: 'AWS::CloudWatch::Alarm',
        Properties: {
          AlarmName: `${name}-${about.toLowerCase()}`,
          Namespace: 'AWS/Lambda',
          MetricName: about,
          Dimensions: [{ Name: 'FunctionName', Value: name }],
          Statistic: 'Sum',
          Period: 5 * minutes,
          EvaluationPeriods: 1,
          Threshold: 1,
          ComparisonOperator: 'GreaterThanOrEqualToThreshold',
          TreatMissingData: 'notBreaching',
          AlarmActions: topics,
          OKActions: topics,
          ...properties,
        },
      },
    ]
    return [
      alarm('Errors', {
        AlarmDescription: `${name} threw, crashed or ran into its timeout: see its log. Tasks it held start again when their lease ends.`,
      }),
      alarm('Throttles', {
        AlarmDescription: `${name} was refused by its own or the account's concurrency limit: raise that if tasks wait too long.`,
        // Beside a limit of its own a runner is throttled whenever there is more to do than it may do.
        EvaluationPeriods: typeof reservedConcurrency === 'number' ? 3 : 1,
      }),
      alarm('Duration', {
        AlarmDescription: `${name} came within a second of its timeout of ${timeout} s: a runner should leave earlier by itself.`,
        Statistic: 'Maximum',
        Threshold: (timeout - 1) * 1000,
      }),
    ]
  })
  const { scheduler } = functions
  if (scheduler !== undefined) {
    const service = await resolveConfigurationProperty(['provider', 'environment', 'IZTA_APP'])
    resources.push(...queueAlarms({ service, scheduler: scheduler.name, topics }))
  }
  return { Resources: Object.fromEntries(resources) }
}

/** Of the metrics that the scheduler writes with each tick. */
function queueAlarms({ service, scheduler, topics }) {
  const alarm = (id, name, properties) => [
    `${id}Alarm`,
    {
      Type: 'AWS::CloudWatch::Alarm',
      Properties: {
        AlarmName: `${scheduler}-${name}`,
        Namespace: 'izta',
        Dimensions: [
          { Name: 'service', Value: service },
          { Name: 'function', Value: scheduler },
        ],
        Statistic: 'Maximum',
        Period: 5 * minutes,
        EvaluationPeriods: 3,
        Threshold: 1,
        ComparisonOperator: 'GreaterThanOrEqualToThreshold',
        TreatMissingData: 'notBreaching',
        AlarmActions: topics,
        OKActions: topics,
        ...properties,
      },
    },
  ]
  return [
    alarm('OldestDue', 'oldest-due', {
      AlarmDescription:
        'A task has been due for a quarter of an hour: there is more to do than the runners may do at once, or they fail. See AWS/Lambda Throttles and the logs of the runners.',
      MetricName: 'AllOldestDueAge',
      EvaluationPeriods: 1,
      Threshold: 15 * minutes,
    }),
    alarm('QueuesWithoutRunner', 'queues-without-runner', {
      AlarmDescription:
        'A queue has due tasks and no runner takes its wakes: deploy one, name it in IZTA_RUNNERS, or see in the log of the scheduler why the wake fails.',
      MetricName: 'QueuesWithoutRunner',
    }),
  ]
}
