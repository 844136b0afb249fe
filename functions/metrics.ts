// The metrics that a function writes: IZTA_METRICS is few, all or none.
import type { MetricsOption } from '../src/aws/lambda.ts'
import { environment } from '../src/environment.ts'

const options: Readonly<Record<string, MetricsOption>> = { few: 'few', all: true, none: false }

export const metrics = options[environment('IZTA_METRICS') ?? '']
