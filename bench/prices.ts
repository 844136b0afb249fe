// What things cost, as the pages say that stand beside each; us-east-1, US dollars, free tiers left out.

export interface Price {
  readonly dollars: number
  readonly unit: string
  /** Where it stands. */
  readonly source: string
  /** When that page was last changed or read. */
  readonly asOf: string
  /** What could not be seen on the vendor's own page. */
  readonly caveat?: string
}

export const prices = {
  lambdaGbSecond: {
    dollars: 0.0000133334,
    unit: 'GB-second, arm64, first 7.5 billion a month',
    source: 'https://aws.amazon.com/lambda/pricing/',
    asOf: '2026-06-18',
    caveat: 'the stored page leaves the rate to a script; the figure is repeated by many others',
  },
  lambdaRequest: {
    dollars: 0.2e-6,
    unit: 'request',
    source: 'https://aws.amazon.com/lambda/pricing/',
    asOf: '2026-09-20',
  },
  schedulerInvocation: {
    dollars: 1e-6,
    unit: 'invocation by EventBridge Scheduler, beyond 14 million a month',
    source: 'https://aws.amazon.com/eventbridge/pricing/',
    asOf: '2026-03-13',
    caveat: 'read in https://cloudburn.io/blog/amazon-eventbridge-pricing, not on the vendor’s page',
  },
  sqsRequest: {
    dollars: 0.4e-6,
    unit: 'request of a standard queue, beyond 1 million a month',
    source: 'https://aws.amazon.com/sqs/pricing/',
    asOf: '2026-03-14',
    caveat: 'read in https://cloudburn.io/blog/amazon-sqs-pricing, not on the vendor’s page',
  },
  neonCuHour: {
    dollars: 0.106,
    unit: 'CU-hour (4 GB of memory), Launch plan',
    source: 'https://neon.com/docs/introduction/plans',
    asOf: '2026-11-12',
  },
  neonGbMonth: {
    dollars: 0.35,
    unit: 'GB-month of data, Launch plan',
    source: 'https://neon.com/docs/introduction/plans',
    asOf: '2026-11-12',
  },
  neonHistoryGbMonth: {
    dollars: 0.2,
    unit: 'GB-month of changes kept for restoring (WAL), Launch plan',
    source: 'https://neon.com/docs/introduction/plans',
    asOf: '2026-11-12',
  },
} as const satisfies Record<string, Price>

export const daysPerMonth = 30.4
