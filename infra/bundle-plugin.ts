// The osls plugin that bundles the functions before they are packaged.

interface Serverless {
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
      log.notice(describeSizes(await bundle(serverless.service.custom.bundle.adapter)))
    }
    this.hooks = {
      'before:package:createDeploymentArtifacts': run,
      'before:package:function:package': run,
    }
  }
}
