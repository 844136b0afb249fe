// The osls plugin that bundles the functions before they are packaged.
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'

interface Serverless {
  readonly serviceDir: string
  readonly service: { readonly custom: { readonly bundle: { readonly adapter: string } } }
}

interface Utils {
  readonly log: { notice(text: string): void }
}

// oxlint-disable-next-line import/no-default-export -- what osls looks for
export default class BundlePlugin {
  readonly hooks: Readonly<Record<string, () => Promise<void>>>

  constructor(serverless: Serverless, _options: unknown, { log }: Utils) {
    const run = async () => {
      // Loads esbuild, which other commands have no use for.
      const { bundle, describeSizes } = await import('./bundle.ts')
      const sizes = await bundle(serverless.service.custom.bundle.adapter)
      log.notice(describeSizes(sizes))
      // Where osls looks for what it compares with the last deployment, to skip one that changes nothing.
      const packages = join(serverless.serviceDir, '.serverless')
      await mkdir(packages, { recursive: true })
      for (const { name } of sizes) {
        await copyFile(join(serverless.serviceDir, '.build', `${name}.zip`), join(packages, `${name}.zip`))
      }
    }
    this.hooks = {
      'before:package:createDeploymentArtifacts': run,
      'before:package:function:package': run,
    }
  }
}
