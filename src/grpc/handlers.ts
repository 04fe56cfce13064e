import type { ServerUnaryCall, UntypedServiceImplementation, sendUnaryData } from '@grpc/grpc-js';
import { ServeError } from '../errors.ts';
import { logged, toServeError } from '../http/problem.ts';
import { describeConfig, describeModel, describeServer } from '../http/v2/describe.ts';
import { infer } from '../http/v2/inference.ts';
import { assertModel } from '../http/v2/model.ts';
import { Cancellation } from '../pipeline/cancellation.ts';
import { messageOf, responseOf } from './convert.ts';
import type { ModelInferRequest } from './convert.ts';
import { isLate } from './heads.ts';
import type { GrpcParts, Head, Heads } from './heads.ts';
import { grpcStatus } from './status.ts';

interface Named {
  readonly name: string;
  /** Empty: whichever is served. */
  readonly version: string;
}

type Call<Request> = ServerUnaryCall<Request, object>;

/** The methods of inference.GRPCInferenceService. */
export function handlers(parts: GrpcParts, heads: Heads): UntypedServiceImplementation {
  const { service, version } = parts;
  const isReady = () => service.state === 'ready';
  const assertNamed = ({ name, version }: Named) =>
    assertModel({ model: name, ...(version !== '' && { version }) }, service.manifest);
  const statistics = () => [service.tritonStatistics.report(service.manifest)];

  async function answer(call: Call<ModelInferRequest>, callback: sendUnaryData<object>) {
    const head = heads.take(call.metadata);
    try {
      const { response, subNetwork } = await inferred(parts, head, call);
      heads.over(head, null, subNetwork);
      callback(null, response);
    } catch (thrown) {
      const error = logged(thrown, parts.log, { reqId: head.id });
      heads.over(head, error);
      callback(grpcStatus(error));
    }
  }

  return {
    ServerLive: unary(() => ({ live: true })),
    ServerReady: unary(() => ({ ready: isReady() })),
    ModelReady: unary((request: Named) => {
      assertNamed(request);
      return { ready: isReady() };
    }),
    ServerMetadata: unary(() => describeServer(version)),
    ModelMetadata: unary((request: Named) => {
      assertNamed(request);
      return describeModel(service.manifest);
    }),
    ModelConfig: unary((request: Named) => {
      assertNamed(request);
      return { config: describeConfig(service) };
    }),
    ModelStatistics: unary((request: Named) => {
      if (request.name !== '') assertNamed(request);
      return { model_stats: statistics() };
    }),
    ModelInfer(call: Call<ModelInferRequest>, callback: sendUnaryData<object>) {
      void answer(call, callback);
    },
  };
}

function unary<Request>(answer: (request: Request) => object) {
  return ({ request }: Call<Request>, callback: sendUnaryData<object>): void => {
    try {
      callback(null, answer(request));
    } catch (error) {
      callback(grpcStatus(toServeError(error)));
    }
  };
}

async function inferred(parts: GrpcParts, head: Head, call: Call<ModelInferRequest>) {
  const { service, inFlight } = parts;
  const { request } = call;
  const { model_name: model, model_version: version } = request;
  const deployment = head.deployment!;
  assertModel({ model, ...(version !== '' && { version }) }, deployment.manifest);
  const message = messageOf(request);
  head.leave.push(inFlight.hold(message.binary.length));
  const { response, binary } = await infer(
    deployment,
    message,
    {
      arrivedAt: head.arrivedAt,
      head: head.needs,
      id: head.id,
      cancellation: endOf(call, head),
      allBinary: true,
      trace: head.trace,
    },
    service,
  );
  head.outcome = response.parameters.budget_met ? 'met' : 'late';
  const { sub_network: subNetwork } = response.parameters;
  return { response: responseOf(response, binary), subNetwork };
}

/** Cancels when the client does, or its deadline passes. */
function endOf(call: Call<unknown>, head: Head): Cancellation {
  const cancellation = new Cancellation();
  const end = () => {
    cancellation.cancel(
      isLate(head)
        ? new ServeError('deadline-passed', 'The deadline passed before the answer.')
        : new ServeError('cancelled', 'The client cancelled before the answer.'),
    );
  };
  if (call.cancelled) end();
  else call.once('cancelled', end);
  return cancellation;
}
