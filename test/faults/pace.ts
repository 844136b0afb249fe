// Shortens the runner's margins, so that leases of seconds end within a run. Import it before anything of src.
import { defaults } from '../../src/defaults.ts'

/** Of each invocation. */
export const invocationMs = 5000

const runner = { graceSeconds: 1, leaseMarginSeconds: 1, stopSeconds: 2, settleSeconds: 1, watchSeconds: 1 }
Object.assign(defaults.runner, runner)
Object.assign(defaults.unknownJob, { firstSeconds: 0.2, maxSeconds: 1 })

/** The longest that a lease can last. */
export const leaseMs = invocationMs + runner.leaseMarginSeconds * 1000
