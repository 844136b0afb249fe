// Puts into words whatever was thrown.

/** The message of anything that can be thrown; never throws itself. */
export function readableMessage(thrown: unknown): string {
  try {
    if (thrown instanceof Error) return String(thrown.message)
    if (typeof thrown === 'string') return thrown
    return JSON.stringify(thrown) ?? String(thrown)
  } catch {
    return `a value of type ${typeof thrown} that cannot be printed`
  }
}
