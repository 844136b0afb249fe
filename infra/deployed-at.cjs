// The age of the code that is deployed: of two deployments that live, the newer one holds the schedules. It is the time
// of the last commit, or of the last change since, so that a deployment without a change changes nothing.
const { execFileSync } = require('node:child_process')
const { readdirSync, statSync } = require('node:fs')
const { join } = require('node:path')

const root = join(__dirname, '..')
const sources = ['functions', 'infra', 'src', 'serverless.yml', 'package.json', 'package-lock.json']

const git = (...words) =>
  execFileSync('git', words, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })

function lastCommit() {
  try {
    const changed = git('status', '--porcelain', '--', ...sources)
      .split('\n')
      .filter(Boolean)
    return { at: new Date(git('log', '-1', '--format=%cI').trim()), isClean: changed.length === 0 }
  } catch {
    // No git, no repository or no commit.
    return undefined
  }
}

function lastChangeMs(path) {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) return 0
  if (!found.isDirectory()) return found.mtimeMs
  return Math.max(0, ...readdirSync(path).map((name) => lastChangeMs(join(path, name))))
}

module.exports = () => {
  const commit = lastCommit()
  if (commit?.isClean) return commit.at.toISOString()
  return new Date(Math.max(...sources.map((source) => lastChangeMs(join(root, source))))).toISOString()
}
