// The handlers fit the types that functions are annotated with, those of @types/aws-lambda.
/* oxlint-disable vitest/expect-expect -- the compiler is what expects here */
import type {
  ALBHandler,
  APIGatewayProxyHandler,
  APIGatewayProxyHandlerV2,
  EventBridgeHandler,
  Handler,
  ScheduledHandler,
  SQSHandler,
} from 'aws-lambda'
import type { EnqueueHandler, RunnerHandler, RunSummary, SchedulerHandler, TickSummary } from 'izta/lambda'
import { expectTypeOf, test } from 'vitest'

test('handlers fit the types of their triggers', () => {
  expectTypeOf<SchedulerHandler>().toExtend<ScheduledHandler>()
  expectTypeOf<SchedulerHandler>().toExtend<Handler<unknown, TickSummary>>()
  expectTypeOf<RunnerHandler>().toExtend<ScheduledHandler>()
  expectTypeOf<RunnerHandler>().toExtend<Handler<unknown, RunSummary>>()
  expectTypeOf<EnqueueHandler>().toExtend<SQSHandler>()
  expectTypeOf<EnqueueHandler>().toExtend<APIGatewayProxyHandler>()
  expectTypeOf<EnqueueHandler>().toExtend<APIGatewayProxyHandlerV2>()
  expectTypeOf<EnqueueHandler>().toExtend<ALBHandler>()
  expectTypeOf<EnqueueHandler>().toExtend<EventBridgeHandler<string, unknown, void>>()
  expectTypeOf<EnqueueHandler>().toExtend<ScheduledHandler>()
})

test('a call without the callback answers with what happened', () => {
  const context = { getRemainingTimeInMillis: () => 1000 }
  const tick = (handler: SchedulerHandler) => handler()
  const run = (handler: RunnerHandler) => handler({}, context)
  expectTypeOf(tick).returns.toEqualTypeOf<Promise<TickSummary>>()
  expectTypeOf(run).returns.toEqualTypeOf<Promise<RunSummary>>()
})
