// `izta/local`: the stack and a PostgreSQL on one machine.
export { startPostgres, type LocalPostgres, type PostgresOptions } from './postgres.ts'
export { startLocalStack, type LocalRunnerOptions, type LocalStack, type LocalStackOptions } from './stack.ts'
