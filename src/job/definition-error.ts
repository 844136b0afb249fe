// How a wrong definition is refused: with what it is about, and why.
import { DefinitionError } from '../errors.ts'

/** `subject` starts the error's sentence. */
export const definitionRefusal = (subject: string, reason: string) =>
  new DefinitionError(`${subject}: ${reason}.`)

/** For `checkOptions`: the message names the option already. */
export const asDefinitionError = (_: string, message: string) => new DefinitionError(message)
