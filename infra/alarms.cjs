// Alarms of every function: errors, throttles, and durations that came within a second of the timeout.
const minutes = 60

module.exports = async ({ resolveConfigurationProperty, resolveVariable }) => {
  const functions = await resolveConfigurationProperty(['functions'])
  const topics = await resolveVariable('param:alarmTopics')
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
  return { Resources: Object.fromEntries(resources) }
}
