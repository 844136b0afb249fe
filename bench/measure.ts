// The shape of a measure.
import type { Bench } from './bench.ts'
import type { Row } from './row.ts'

export { isMet, median, quantile, type Row, type Target } from './row.ts'

export interface Measure {
  readonly name: string
  /** One sentence for the table and `--help`. */
  readonly title: string
  run(bench: Bench): Promise<Row[]>
}
