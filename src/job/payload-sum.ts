// A bound on the payloads that one statement carries: each is within its own limit, and together they may not be.

/** Adds up the sizes of payloads. */
export type AddBytes = (bytes: number) => void

/**
 * Throws what `refuse` makes of the sum when a payload exceeds the limit together with those before it. The first one
 * always fits, because it has a limit of its own.
 */
export function sumUpTo(limitBytes: number, refuse: (sumBytes: number) => Error): AddBytes {
  let sumBytes = 0
  return (bytes) => {
    if (sumBytes > 0 && sumBytes + bytes > limitBytes) throw refuse(sumBytes + bytes)
    sumBytes += bytes
  }
}
