// The safety sweep of sleepy mode: a rare tick that starts what no wake and no alarm has told of. `sweepRate: 0`: none.
module.exports = async ({ resolveVariable }) => {
  const [mode, rate, service, stage] = await Promise.all(
    ['param:mode', 'param:sweepRate', 'self:service', 'sls:stage'].map((name) => resolveVariable(name)),
  )
  if (mode !== 'sleepy' || String(rate) === '0') return {}
  const sweep = {
    Type: 'AWS::Scheduler::Schedule',
    Properties: {
      Name: `${service}-${stage}-sweep`,
      GroupName: { Ref: 'ScheduleGroup' },
      ScheduleExpression: rate,
      FlexibleTimeWindow: { Mode: 'OFF' },
      Target: {
        Arn: { 'Fn::GetAtt': ['SchedulerLambdaFunction', 'Arn'] },
        RoleArn: { 'Fn::GetAtt': ['AlarmRole', 'Arn'] },
        RetryPolicy: { MaximumRetryAttempts: 10, MaximumEventAgeInSeconds: 3600 },
        DeadLetterConfig: { Arn: { 'Fn::GetAtt': ['DeadLetterQueue', 'Arn'] } },
      },
    },
  }
  return { Resources: { SweepSchedule: sweep } }
}
