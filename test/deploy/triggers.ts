// Everything of AWS that can invoke the enqueue function, made by calls to the emulator, each with a request sent by it.
import { AwsClient } from 'aws4fetch'
import { account, credentials, region } from './emulator.ts'

/** Any call as the account's root; answers with the text. */
export type Call = (service: string, path: string, options?: CallOptions) => Promise<string>

export interface CallOptions {
  readonly method?: string
  readonly target?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
  readonly form?: Readonly<Record<string, string>>
}

export interface Triggers {
  readonly call: Call
  readonly endpoint: string
  readonly functionName: string
}

export interface Trigger {
  readonly name: string
  /** Makes the trigger and sends the request by it: over HTTP it answers with the status and the body. */
  send(request: object): Promise<{ status: number; body: string } | undefined>
}

export function triggers({ call, endpoint, functionName }: Triggers): Trigger[] {
  const functionArn = `arn:aws:lambda:${region}:${account}:function:${functionName}`
  const json = async (service: string, path: string, options?: CallOptions) =>
    JSON.parse(await call(service, path, options)) as Record<string, string>
  const form = (service: string, Version: string, fields: Record<string, string>) =>
    call(service, '/', { form: { Version, ...fields } })
  const post = async (path: string, request: object, send: typeof fetch = fetch) => {
    const body = JSON.stringify(request)
    const headers = { 'content-type': 'application/json' }
    const response = await send(endpoint + path, { method: 'POST', headers, body })
    return { status: response.status, body: await response.text() }
  }
  const allow = (principal: string) =>
    call('lambda', `/2015-03-31/functions/${functionName}/policy`, {
      body: {
        StatementId: principal,
        Action: 'lambda:InvokeFunction',
        Principal: `${principal}.amazonaws.com`,
      },
    })

  const httpApi = (format: '1.0' | '2.0') => async (request: object) => {
    const { apiId } = await json('apigateway', '/v2/apis', {
      body: { name: `tasks ${format}`, protocolType: 'HTTP' },
    })
    const api = `/v2/apis/${apiId}`
    const { integrationId } = await json('apigateway', `${api}/integrations`, {
      body: { integrationType: 'AWS_PROXY', integrationUri: functionArn, payloadFormatVersion: format },
    })
    await call('apigateway', `${api}/routes`, {
      body: { routeKey: 'POST /tasks', target: `integrations/${integrationId}` },
    })
    await call('apigateway', `${api}/stages`, { body: { stageName: 'live', autoDeploy: true } })
    return post(`/_aws/execute-api/${apiId}/live/tasks`, request)
  }

  return [
    {
      name: 'an asynchronous invocation',
      async send(body) {
        const headers = { 'x-amz-invocation-type': 'Event' }
        await call('lambda', `/2015-03-31/functions/${functionName}/invocations`, { headers, body })
      },
    },
    {
      name: 'an SQS queue',
      async send(request) {
        const created = await form('sqs', '2012-11-05', { Action: 'CreateQueue', QueueName: 'requests' })
        const [, QueueUrl = ''] = /<QueueUrl>(.*?)<\/QueueUrl>/.exec(created) ?? []
        await call('lambda', '/2015-03-31/event-source-mappings/', {
          body: {
            EventSourceArn: `arn:aws:sqs:${region}:${account}:requests`,
            FunctionName: functionName,
            FunctionResponseTypes: ['ReportBatchItemFailures'],
          },
        })
        const MessageBody = JSON.stringify(request)
        await form('sqs', '2012-11-05', { Action: 'SendMessage', QueueUrl, MessageBody })
      },
    },
    {
      name: 'an EventBridge rule',
      async send(request) {
        const events = (action: string, body: object) =>
          call('events', '/', { target: `AWSEvents.${action}`, body })
        const EventPattern = JSON.stringify({ 'detail-type': ['greet requested'] })
        await events('PutRule', { Name: 'requests', EventPattern })
        await events('PutTargets', { Rule: 'requests', Targets: [{ Id: 'enqueue', Arn: functionArn }] })
        await allow('events')
        const event = {
          Source: 'test',
          DetailType: 'greet requested',
          Detail: JSON.stringify(request),
        }
        await events('PutEvents', { Entries: [event] })
      },
    },
    {
      name: 'EventBridge Scheduler',
      async send(request) {
        const at = new Date(Date.now() + 1000).toISOString().slice(0, 19)
        await call('scheduler', '/schedules/request', {
          body: {
            ScheduleExpression: `at(${at})`,
            FlexibleTimeWindow: { Mode: 'OFF' },
            ActionAfterCompletion: 'DELETE',
            Target: {
              Arn: functionArn,
              RoleArn: `arn:aws:iam::${account}:role/any`,
              Input: JSON.stringify(request),
            },
          },
        })
      },
    },
    { name: 'an HTTP API, format 2.0', send: httpApi('2.0') },
    { name: 'an HTTP API, format 1.0', send: httpApi('1.0') },
    {
      name: 'a REST API',
      async send(request) {
        const { id } = await json('apigateway', '/restapis', { body: { name: 'tasks' } })
        const api = `/restapis/${id}`
        const { item } = JSON.parse(await call('apigateway', `${api}/resources`)) as {
          item: { id: string }[]
        }
        const resource = await json('apigateway', `${api}/resources/${item[0]?.id}`, {
          body: { pathPart: 'tasks' },
        })
        const method = `${api}/resources/${resource['id']}/methods/POST`
        await call('apigateway', method, { method: 'PUT', body: { authorizationType: 'NONE' } })
        const uri = `arn:aws:apigateway:${region}:lambda:path/2015-03-31/functions/${functionArn}/invocations`
        await call('apigateway', `${method}/integration`, {
          method: 'PUT',
          body: { type: 'AWS_PROXY', httpMethod: 'POST', uri },
        })
        await call('apigateway', `${api}/deployments`, { body: { stageName: 'live' } })
        return post(`/_aws/execute-api/${id}/live/tasks`, request)
      },
    },
    {
      name: 'a load balancer',
      async send(request) {
        const elb = async (fields: Record<string, string>, arn: string) => {
          const answer = await form('elasticloadbalancing', '2015-12-01', fields)
          return new RegExp(`<${arn}>(.*?)</${arn}>`).exec(answer)?.[1] ?? ''
        }
        const LoadBalancerArn = await elb(
          { Action: 'CreateLoadBalancer', Name: 'tasks', 'Subnets.member.1': 'subnet-1' },
          'LoadBalancerArn',
        )
        const group = { Action: 'CreateTargetGroup', Name: 'enqueue', TargetType: 'lambda' }
        const TargetGroupArn = await elb(group, 'TargetGroupArn')
        await allow('elasticloadbalancing')
        await elb({ Action: 'RegisterTargets', TargetGroupArn, 'Targets.member.1.Id': functionArn }, 'none')
        await elb(
          {
            Action: 'CreateListener',
            LoadBalancerArn,
            Protocol: 'HTTP',
            Port: new URL(endpoint).port,
            'DefaultActions.member.1.Type': 'forward',
            'DefaultActions.member.1.TargetGroupArn': TargetGroupArn,
          },
          'ListenerArn',
        )
        // The emulator knows by the signature in which region to look for it.
        const client = new AwsClient({
          ...credentials(),
          region,
          service: 'elasticloadbalancing',
          retries: 0,
        })
        return post('/_alb/tasks/tasks', request, client.fetch.bind(client))
      },
    },
  ]
}
