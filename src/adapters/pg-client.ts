// The client of pg with the options that pgDatabase takes.
import { Client, type ClientConfig } from 'pg'
import { keepPassword, type PgOptions } from './pool.ts'

export class PgClient extends Client {
  constructor(options: PgOptions) {
    super(options as ClientConfig)
    keepPassword(this, options)
  }
}
