// The process's environment. The only reader of process.env.

/** A variable of the environment; empty counts as unset. */
export function environment(name: string): string | undefined {
  const value = process.env[name]
  return value === '' ? undefined : value
}

/** The environment for a child process: this one's, with some variables set. */
export const environmentWith = (variables: Record<string, string>): Record<string, string | undefined> => ({
  ...process.env,
  ...variables,
})
