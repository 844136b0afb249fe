// Says where and why a file with jobs could not be loaded: file, line and column, with the line itself.
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readableMessage } from '../errors.ts'

interface Place {
  readonly path: string
  readonly line: number
  readonly column: number
}

/** Sentences, and the place in lines of its own if it is known. */
export function describeLoadError(file: string, cause: unknown): string {
  const place = placeOf(cause)
  const why = wrongModuleType(cause, place?.path ?? file) ?? asSentence(readableMessage(cause))
  const said = `${file} could not be loaded: ${why}${adviceFor(cause)}`
  return place === undefined ? said : `${said}\n${show(place)}`
}

const asSentence = (text: string) => (/[.!?]$/.test(text) ? text : `${text}.`)

const codeOf = (cause: unknown) => (cause instanceof Error && 'code' in cause ? cause.code : undefined)

function adviceFor(cause: unknown): string {
  if (cause instanceof ReferenceError && cause.message.endsWith('before initialization')) {
    return ' Two files import each other, and the one that defines it has not run yet: define the job without run, and add the handler in a file of its own with implementJob.'
  }
  switch (codeOf(cause)) {
    case 'ERR_UNKNOWN_FILE_EXTENSION':
      return ' Node.js runs TypeScript as it is from version 22.18 on.'
    case 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX':
      return ' Node.js only takes types away: write it without syntax that makes code.'
    default:
      return ''
  }
}

/** Node.js says only that import or export stands where it may not. */
function wrongModuleType(cause: unknown, path: string): string | undefined {
  const keyword = /^Cannot use (import) statement outside a module|^Unexpected token '(export)'/.exec(
    readableMessage(cause),
  )
  if (keyword === null) return undefined
  const manifest = manifestAbove(dirname(path))
  if (manifest === undefined) return undefined
  const { type } = JSON.parse(readFileSync(manifest, 'utf8')) as { type?: string }
  if (type !== 'commonjs') return undefined
  const renamed = basename(path).replace(/\.(?=[jt]s$)/, '.m')
  return `it uses ${keyword[1] ?? keyword[2]}, but the nearest package.json (${manifest}) says "type": "commonjs": set it to "module" (npm pkg set type=module) or name the file ${renamed}.`
}

function manifestAbove(folder: string): string | undefined {
  const manifest = join(folder, 'package.json')
  if (existsSync(manifest)) return manifest
  const parent = dirname(folder)
  return parent === folder ? undefined : manifestAbove(parent)
}

/** Where the parser stopped, or else the innermost frame that is neither Node.js, nor a package, nor izta. */
function placeOf(cause: unknown): Place | undefined {
  const stack = cause instanceof Error ? String(cause.stack) : ''
  const [, head, headLine = '', indent = ''] = /^(\S.*):(\d+)\n(?:.*\n){1,9}?( *)\^+\n/.exec(stack) ?? []
  if (head !== undefined) {
    return { path: pathOf(head), line: Number(headLine), column: indent.length + 1 }
  }
  const [frame] = framesOfUser(stack)
  const [, file, line = '', column = ''] = /^at (?:.*\()?(.+):(\d+):(\d+)\)?$/.exec(frame ?? '') ?? []
  return file === undefined ? undefined : { path: pathOf(file), line: Number(line), column: Number(column) }
}

const pathOf = (file: string) => (file.startsWith('file:') ? fileURLToPath(file) : file)

const izta = new URL('../', import.meta.url).href

/** The frames of a stack that are the user's own, each as `at …`. */
export function framesOfUser(stack: string): string[] {
  const frames = stack.split('\n').map((line) => line.trim())
  return frames.filter(
    (frame) =>
      /^at .*:\d+:\d+\)?$/.test(frame) &&
      !/[\\/]node_modules[\\/]|[ (]node:|[ (]native:/.test(frame) &&
      !frame.includes(izta),
  )
}

function show({ path, line, column }: Place): string {
  const at = `  ${relative('', path)}:${line}:${column}`
  const text = linesOf(path)[line - 1]
  if (text === undefined) return at
  // Tabs keep their width, so that the mark stands below its character.
  const indent = text.slice(0, column - 1).replaceAll(/[^\t]/g, ' ')
  return `${at}\n    ${text}\n    ${indent}^`
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n')
  } catch {
    return []
  }
}
