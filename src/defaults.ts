// Every default in one place; each name ends in its unit.

export const defaults = {
  schema: 'izta',
  queue: 'default',
  /** 0 is first, 9 last. */
  priority: 5,
  maxAttempts: 3,
  timeoutSeconds: 60,
  backoff: { firstSeconds: 1, factor: 2, maxSeconds: 3600, jitter: 'full' },
  retention: { finishedDays: 7, failedDays: 30 },
  /** All tries of a call of the application, and its waiting for a connection. */
  callTimeoutSeconds: 10,
  payloadLimitBytes: 1024 * 1024,
  resultLimitBytes: 1024 * 1024,
  keyLimitBytes: 512,
  /** Containers inside containers; with its default stack Postgres' JSON parser gives up at 13,000 and more. */
  nestingLimit: 6000,
  tasksPerCall: 10_000,
  /** The payloads of one call together. */
  callLimitBytes: 32 * 1024 * 1024,
  /** Single enqueues that come while so many of them are on their way go together in the next call. */
  joining: { calls: 4, tasks: 250, bytes: 8 * 1024 * 1024 },
  childrenPerTask: 1000,
  /** The payloads of one task's children together: they are stored by one statement. */
  childrenLimitBytes: 16 * 1024 * 1024,
  /** A declared error. A task keeps 25 of them in its row, which each attempt writes again. */
  errorLimitBytes: 64 * 1024,
  errorsKept: 25,
  /** A task whose process died so often has failed. */
  maxLosses: 3,
  runner: {
    concurrency: 10,
    /** Between the signal of a timeout and the verdict that a handler is stuck. */
    graceSeconds: 5,
    /** What the lease outlives the invocation by. */
    leaseMarginSeconds: 2,
    /** Running handlers are told to stop this long before the deadline. */
    stopSeconds: 5,
    /** Of these, what is kept for the last settle. */
    settleSeconds: 2,
    /** While tasks run, cancellations are read at least this often. */
    watchSeconds: 5,
    /** Between an empty claim and the last look before leaving. */
    lastLookMs: 50,
    /** Lambda stops a chain of functions invoking each other after 16 hops. */
    maxHops: 12,
    keyedSettles: 4,
    /** A second turn is sent while the first is in flight if it claims at least this many tasks. */
    secondTurnPlaces: 64,
    /** In a backlog claims begin where the last one ended; this long after a look from the beginning comes the next. */
    blindSeconds: 5,
    /** The share of the time that looks from the beginning may take: costly ones are rarer. */
    fullLookShare: 0.05,
    /** A leaving runner waits for a task that is due so soon; the rate of ticks, so that none is started late. */
    lingerSeconds: 60,
    /** In a busy runner turns begin this share of the time apart that handlers take. */
    paceShare: 0.125,
    /** And the first of several handlers that end waits this share of its time for the others. */
    gatherShare: 0.025,
    /** The most that either is. */
    paceMs: 50,
    /** Between turns while the database refuses them. */
    troublePauseMs: 1000,
    /** Of settled bodies and children in one call, so that requests stay small. */
    settleBytes: 8 * 1024 * 1024,
  },
  server: { pollSeconds: 2, termSeconds: 900, tickSeconds: 60, stopSeconds: 30 },
  alarm: {
    /** An alarm that goes off within this time may do so before an insert that relies on it has committed. */
    marginSeconds: 5,
    /** A runner that has claimed is followed by a look after so long, in case a wake was lost. */
    checkSeconds: 60,
    /** What stays due is looked at when its age has doubled, and at least so often. */
    overdueSeconds: 3600,
    /** When the database cannot tell what is due next. */
    blindSeconds: 300,
  },
  unknownJob: { firstSeconds: 5, maxSeconds: 600 },
  wait: { timeoutSeconds: 60, firstPollMs: 100, maxPollMs: 2000 },
  list: { pageSize: 100 },
  schedule: {
    aheadSeconds: 120,
    /** A process that ticks compares its definitions with the stored ones so often. */
    syncSeconds: 600,
    /** A deployment that has not synced for this long is gone: an older one that syncs takes its place. */
    silenceSeconds: 1200,
    /** A tick that comes this long after it was due ends an outage: slots that passed meanwhile were missed. */
    lateSeconds: 360,
  },
  migration: {
    /** A migration asks for a lock this long, since everything waits behind it. */
    lockTimeoutMs: 1000,
    /** And asks again for this long. */
    lockWaitSeconds: 60,
  },
  /** History rows in one portion, and how long a tick or a leaving runner goes on. */
  prune: { rows: 5000, tickSeconds: 20, runnerSeconds: 5 },
  /** How long the bare row of a task with `finishedDays: 'none'` still stops a repeated enqueue. */
  ledgerDays: 1,
} as const
