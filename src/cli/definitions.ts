// Finds jobs, schedules and an izta instance among what a file exports.
import { access } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Izta } from '../client/izta.ts'
import { configOf } from '../config.ts'
import { IztaError } from '../errors.ts'
import { isJob, type AnyJob } from '../job/job.ts'
import type { Schedule } from '../job/schedule.ts'
import { describeLoadError } from './load-error.ts'

export interface Definitions {
  readonly izta: Izta | undefined
  readonly jobs: readonly AnyJob[]
  readonly schedules: readonly Schedule[]
}

/** Any export counts, and so does every item of an exported list. */
export async function loadDefinitions(file: string): Promise<Definitions> {
  const exported = Object.values(await load(file)).flat(1)
  const izta = exported.find(isIzta)
  const jobs = [...new Set(exported.filter(isJob))]
  const schedules = [...new Set(exported.filter(isSchedule))]
  if (izta === undefined && jobs.length + schedules.length === 0) {
    throw new IztaError(
      'nothing-exported',
      `${file} exports no job, no schedule and no izta instance: export what defineJob returns.`,
    )
  }
  return { izta, jobs, schedules }
}

async function load(file: string): Promise<Record<string, unknown>> {
  const path = resolve(file)
  try {
    await access(path)
  } catch (cause) {
    throw new IztaError(
      'file-not-found',
      `There is no file ${path}: give the path of the file with the jobs.`,
      { cause },
    )
  }
  try {
    return (await import(pathToFileURL(path).href)) as Record<string, unknown>
  } catch (cause) {
    throw new IztaError('file-not-loaded', describeLoadError(path, cause), { cause })
  }
}

const isSchedule = (value: unknown): value is Schedule =>
  typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'schedule'

function isIzta(value: unknown): value is Izta {
  try {
    return configOf(value as Izta) !== undefined
  } catch {
    return false
  }
}
