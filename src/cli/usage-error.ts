// What the caller of a command has to correct in its arguments.

export class UsageError extends Error {
  override readonly name = 'UsageError'
}
