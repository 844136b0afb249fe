// A log that keeps quiet, for tests that do not look at it.
import type { Logger } from 'izta'

export const silentLog: Logger = { debug() {}, info() {}, warn() {}, error() {} }
