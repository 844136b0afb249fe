// What a check of `izta doctor` finds, and how numbers are written in it.

export type Level = 'ok' | 'warning' | 'failure'

/** One line: what is wrong, the value, and what to do. */
export interface Verdict {
  readonly level: Level
  readonly message: string
}

export interface Finding extends Verdict {
  /** The check. */
  readonly name: string
}

export const ok = (message: string): Verdict => ({ level: 'ok', message })
export const warning = (message: string): Verdict => ({ level: 'warning', message })
export const failure = (message: string): Verdict => ({ level: 'failure', message })

/** `3 tasks`, `1,000 tasks`, `1 task`. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString('en-US')} ${number === 1 ? one : many}`
}

/** A span in the largest unit that leaves a whole number above 1. */
export function span(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)} min`
  if (seconds < 2 * 86_400) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} days`
}

export function size(bytes: number): string {
  const mebibytes = bytes / 1024 ** 2
  if (mebibytes < 1) return `${Math.ceil(bytes / 1024)} KiB`
  return mebibytes < 1024 ? `${Math.round(mebibytes)} MiB` : `${Math.round(mebibytes / 102.4) / 10} GiB`
}

/** The first few, and how many more there are. */
export function some(names: readonly string[], most = 5): string {
  const shown = names.slice(0, most).join(', ')
  return names.length > most ? `${shown} and ${names.length - most} more` : shown
}
