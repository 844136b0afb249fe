// MiniStack, an AWS emulator from PyPI, as published: installed into .izta/, started on a free port, stopped at the end.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile, readFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const run = promisify(execFile)

const versions = ['ministack==1.5.33', 'cfn-lint==1.58.0']
const venv = fileURLToPath(new URL('../../.izta/deploy-venv', import.meta.url))

/** The path of a program of the virtual environment, which is made when it is missing or holds other versions. */
export async function pythonProgram(name: string): Promise<string> {
  const mark = join(venv, 'installed')
  const installed = await readFile(mark, 'utf8').catch(() => '')
  if (installed !== versions.join(' ')) {
    await rm(venv, { recursive: true, force: true })
    await mkdir(dirname(venv), { recursive: true })
    await run('python3', ['-m', 'venv', venv]).catch((cause: unknown) => {
      throw new Error('Python 3 with venv and pip is needed (Debian: apt-get install python3-venv).', {
        cause,
      })
    })
    await run(join(venv, 'bin/pip'), ['install', '--quiet', '--disable-pip-version-check', ...versions])
    await writeFile(mark, versions.join(' '))
  }
  return join(venv, 'bin', name)
}

/** In the emulator this key is the account's root. */
export const account = '111122223333'
export const region = 'eu-central-1'
export const credentials = () => ({ accessKeyId: account, secretAccessKey: 'test' })

export interface Emulator {
  readonly endpoint: string
  /** What command-line tools need to find it. */
  readonly environment: Readonly<Record<string, string>>
  /** What it and the functions have printed. */
  readonly log: () => string
  stop(): Promise<void>
}

export async function startEmulator(): Promise<Emulator> {
  const program = await pythonProgram('ministack')
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'izta-emulator-'))
  const endpoint = `http://127.0.0.1:${port}`
  // Functions inherit all of it, so nothing of this process goes in.
  const child = spawn(program, [], {
    env: {
      // The first `node` on the path runs the functions.
      PATH: `${dirname(process.execPath)}:/usr/bin:/bin`,
      BIND_HOST: '127.0.0.1',
      GATEWAY_PORT: String(port),
      MINISTACK_HOST: '127.0.0.1',
      MINISTACK_ACCOUNT_ID: account,
      // Per-function policies are enforced.
      AUTH: 'true',
      LAMBDA_EXECUTOR: 'local',
      LAMBDA_ASYNC_RETRY_BASE_SECONDS: '0.2',
      TMPDIR: folder,
    },
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    // With the workers that run functions, in a group to be ended together.
    detached: true,
  })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (log += String(text)))
  const stop = async () => {
    if (child.exitCode === null && child.pid !== undefined) {
      process.kill(-child.pid, 'SIGKILL')
      await once(child, 'exit')
    }
    await rm(folder, { recursive: true, force: true })
  }
  const deadline = Date.now() + 30_000
  while (
    !(await fetch(`${endpoint}/_ministack/health`).then(
      (reply) => reply.ok,
      () => false,
    ))
  ) {
    if (Date.now() > deadline || child.exitCode !== null) {
      await stop()
      throw new Error(`The emulator did not start:\n${log}`)
    }
    await new Promise((resume) => setTimeout(resume, 100))
  }
  return {
    endpoint,
    environment: {
      AWS_ENDPOINT_URL: endpoint,
      AWS_ACCESS_KEY_ID: account,
      AWS_SECRET_ACCESS_KEY: 'test',
      AWS_REGION: region,
      // Else each step of a deployment is looked at every 5 s.
      SLS_AWS_MONITORING_FREQUENCY: '200',
    },
    log: () => log,
    stop,
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const { port } = server.address() as AddressInfo
  await new Promise((closed) => server.close(closed))
  return port
}
