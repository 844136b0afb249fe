// A logger that keeps quiet: the screen tells what happens, and failures are read back from the database.
import type { Logger } from '../src/index.ts'

const ignore = () => {}

export const quietLog: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore }
