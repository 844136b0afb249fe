// The osls plugin that lets the scheduler tick once after each deployment: it stores the schedules of the new code, and
// in sleepy mode sets the alarm for them.
import { createAwsApi, type AwsCredentials } from '../src/aws/api.ts'

interface Serverless {
  readonly service: { readonly functions: Readonly<Record<string, { readonly name: string }>> }
  getProvider(name: 'aws'): {
    getRegion(): string
    getAwsSdkV3CredentialsProvider(): () => Promise<AwsCredentials>
  }
}

interface Utils {
  readonly log: { warning(text: string): void }
}

// oxlint-disable-next-line import/no-default-export -- what osls looks for
export default class FirstTickPlugin {
  readonly hooks: Readonly<Record<string, () => Promise<void>>>

  constructor(serverless: Serverless, _options: unknown, { log }: Utils) {
    this.hooks = {
      'after:deploy:deploy': async () => {
        const name = serverless.service.functions['scheduler']?.name
        if (name === undefined) return
        const provider = serverless.getProvider('aws')
        const api = createAwsApi({
          region: provider.getRegion(),
          credentials: provider.getAwsSdkV3CredentialsProvider(),
        })
        try {
          await api({
            service: 'lambda',
            method: 'POST',
            path: `/2015-03-31/functions/${name}/invocations`,
            headers: { 'x-amz-invocation-type': 'Event' },
            body: {},
          })
        } catch (error) {
          log.warning(
            `${name} could not be invoked (${String(error)}): changed schedules wait for its next tick, sweep or alarm. Your user needs lambda:InvokeFunction.`,
          )
        }
      },
    }
  }
}
