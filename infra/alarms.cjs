// Alarms. `few`: what should wake somebody. `all`: also what explains it. `none`. docs/deploying.md has their cost.
const { rateSeconds } = require('./rates.cjs')

const minutes = 60
const hours = 3600

module.exports = async ({ resolveConfigurationProperty, resolveVariable }) => {
  const param = (name) => resolveVariable(`param:${name}`)
  const [wanted, metrics, mode, tickRate, sweepRate] = await Promise.all(
    ['alarms', 'metrics', 'mode', 'tickRate', 'sweepRate'].map(param),
  )
  if (wanted === 'none') return {}
  const functions = await resolveConfigurationProperty(['functions'])
  const stack = `${await resolveVariable('self:service')}-${await resolveVariable('sls:stage')}`
  const topics = await resolveVariable('self:custom.alarmTopics')
  const isSleepy = mode === 'sleepy'
  const alarms = [...deadLetters(stack), ...Object.entries(functions).flatMap(ofFunction)]
  if (functions.scheduler !== undefined && metrics !== 'none') {
    const app = await resolveConfigurationProperty(['provider', 'environment', 'IZTA_APP'])
    const dimensions = [
      { Name: 'service', Value: app },
      { Name: 'function', Value: functions.scheduler.name },
    ]
    // In sleepy mode the sweep is all that comes for sure.
    const rate = rateSeconds(isSleepy ? sweepRate : tickRate)
    if (rate !== undefined && rate <= slowestSeconds) {
      alarms.push(ticks({ stack, dimensions, isSleepy, rateSeconds: rate }))
    }
    const periodSeconds = isSleepy ? 5 * minutes : Math.max(5 * minutes, rateSeconds(tickRate) ?? 0)
    alarms.push(...queues({ name: functions.scheduler.name, dimensions, periodSeconds }))
  }
  const chosen = wanted === 'all' ? alarms : alarms.filter(({ isFew }) => isFew)
  return {
    Resources: Object.fromEntries(chosen.map((alarm) => [`${alarm.id}Alarm`, resourceOf(alarm, topics)])),
  }
}

function resourceOf({ name, description, properties }, topics) {
  return {
    Type: 'AWS::CloudWatch::Alarm',
    Properties: {
      AlarmName: name,
      AlarmDescription: description,
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
  }
}

/** The runners' errors are few: nothing else tells of a runner that dies with each of its tasks. */
function ofFunction([key, { name, timeout, environment = {} }]) {
  const id = key[0].toUpperCase() + key.slice(1)
  const alarm = (about, isFew, description, properties) => ({
    id: `${id}${about}`,
    name: `${name}-${about.toLowerCase()}`,
    isFew,
    description,
    properties: {
      Namespace: 'AWS/Lambda',
      MetricName: about,
      Dimensions: [{ Name: 'FunctionName', Value: name }],
      ...properties,
    },
  })
  return [
    alarm(
      'Errors',
      'IZTA_QUEUES' in environment,
      `${name} threw, crashed or ran into its timeout: see its log. Tasks it held start again when their lease ends.`,
    ),
    alarm(
      'Throttles',
      false,
      `${name} was refused by its own or the account's concurrency limit for a quarter of an hour: raise that if tasks wait too long.`,
      // Next to a limit a runner is throttled whenever there is more to do than it may do.
      { EvaluationPeriods: 3 },
    ),
    alarm(
      'Duration',
      false,
      `${name} came within a second of its timeout of ${timeout} s: a runner should leave earlier by itself.`,
      { Statistic: 'Maximum', Threshold: (timeout - 1) * 1000 },
    ),
  ]
}

function deadLetters(stack) {
  const queue = (id) => [{ Name: 'QueueName', Value: { 'Fn::GetAtt': [id, 'QueueName'] } }]
  return [
    {
      id: 'EnqueueDeadLetter',
      name: `${stack}-enqueue-dead-letters`,
      isFew: true,
      description:
        'Requests to enqueue were not stored and wait in the dead-letter queue, whose messages say why: mend that, then send them again.',
      // What is there: the alarm ends when the queue is empty.
      properties: {
        Namespace: 'AWS/SQS',
        MetricName: 'ApproximateNumberOfMessagesVisible',
        Dimensions: queue('EnqueueDeadLetterQueue'),
        Statistic: 'Maximum',
      },
    },
    {
      id: 'DeadLetter',
      name: `${stack}-dead-letters`,
      isFew: true,
      description:
        'Ticks or alarms did not reach the scheduler, or it failed: the messages of the dead-letter queue say why. Nothing has to be sent again.',
      // Not the number that is there, so that the alarm ends without anybody emptying the queue.
      properties: {
        Namespace: 'AWS/SQS',
        MetricName: 'NumberOfMessagesSent',
        Dimensions: queue('DeadLetterQueue'),
      },
    },
  ]
}

/** CloudWatch looks at seven days at most, so slower ticks have no alarm. */
const slowestSeconds = 3 * 24 * hours

/** One tick may be missing. */
function ticks({ stack, dimensions, isSleepy, rateSeconds: rate }) {
  const period =
    2.5 * rate <= 15 * minutes ? 15 * minutes : Math.min(Math.ceil((2.5 * rate) / hours), 7 * 24) * hours
  const since = period < hours ? `${period / minutes} minutes` : `${period / hours} hours`
  return {
    id: 'Tick',
    name: `${stack}-ticks`,
    isFew: true,
    description: isSleepy
      ? `The scheduler has not succeeded for ${since}, though the sweep comes more often: alarms are not set, and what is due does not start.`
      : `No tick has succeeded for ${since}: schedules make no tasks, and tasks without a wake do not start.`,
    properties: {
      Namespace: 'izta',
      MetricName: 'Ticks',
      Dimensions: dimensions,
      Period: period,
      ComparisonOperator: 'LessThanThreshold',
      TreatMissingData: 'breaching',
    },
  }
}

/** Of the metrics that the scheduler writes with each tick. */
function queues({ name, dimensions, periodSeconds }) {
  const own = { Namespace: 'izta', Dimensions: dimensions, Statistic: 'Maximum', Period: periodSeconds }
  const thresholdSeconds = 15 * minutes + (periodSeconds > 5 * minutes ? periodSeconds : 0)
  return [
    {
      id: 'OldestDue',
      name: `${name}-oldest-due`,
      isFew: true,
      description: `A task has been due for ${thresholdSeconds / minutes} minutes: there is more to do than the runners may do at once, or they fail. See AWS/Lambda Throttles and the logs of the runners.`,
      properties: { ...own, MetricName: 'AllOldestDueAge', Threshold: thresholdSeconds },
    },
    {
      id: 'QueuesWithoutRunner',
      name: `${name}-queues-without-runner`,
      isFew: false,
      description:
        'A queue has due tasks and no runner takes its wakes: deploy one, name it in IZTA_RUNNERS, or see in the log of the scheduler why the wake fails.',
      properties: { ...own, MetricName: 'QueuesWithoutRunner', EvaluationPeriods: 3 },
    },
  ]
}
