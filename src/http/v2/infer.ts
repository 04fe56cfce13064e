import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify';
import { serverTimingOf } from '../answer.ts';
import { headRequirementsOf } from '../budget.ts';
import type { HeadRequirements } from '../budget.ts';
import { cancelOnDisconnect } from '../disconnect.ts';
import { readWhole } from '../bodies.ts';
import { fromRefusal } from '../problem.ts';
import { serveBy } from '../serving.ts';
import type { Entering, Serving } from '../serving.ts';
import { infer } from './inference.ts';
import { rawMessage } from './inputs.ts';
import { jsonLengthOf, readMessage } from './message.ts';
import { assertModel, MODEL_PATHS } from './model.ts';
import type { ModelParams } from './model.ts';
import { InferRequest, InferResponse, v2Errors } from './schemas.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** What the head of a request to /infer asks for. */
    headRequirements: HeadRequirements | null;
  }
}

/** readMessage() validates: strictly, and only after JSON and tensors are taken apart. */
const REQUEST_BODY = {
  content: {
    'application/json': { schema: InferRequest },
    'application/octet-stream': { schema: { type: 'string', format: 'binary' } },
  },
};

/** `POST …/infer`: tensors or encoded images in, tensors out, within the request's budget. */
export function inferRoutes(service: Serving): FastifyPluginAsync {
  async function answer(request: FastifyRequest, reply: FastifyReply): Promise<Buffer | object> {
    const deployment = request.deployment!;
    const body = (request.body as Buffer | undefined) ?? Buffer.alloc(0);
    const message = readMessage(body, jsonLengthOf(request), (raw) =>
      rawMessage(raw, deployment.manifest.input),
    );
    const call = {
      arrivedAt: request.arrivedAt,
      head: request.headRequirements!,
      id: request.id,
      cancellation: cancelOnDisconnect(request, reply),
      allBinary: false,
      trace: request.trace,
    };
    const { response, binary, results, totalMs } = await infer(deployment, message, call, service);
    request.outcome = response.parameters.budget_met ? 'met' : 'late';
    reply.header('server-timing', serverTimingOf(results, totalMs));
    reply.header('x-sub-network', response.parameters.sub_network);
    if (binary.length === 0) return response;

    const head = Buffer.from(JSON.stringify(response));
    reply.header('inference-header-content-length', head.length);
    reply.type('application/octet-stream');
    return Buffer.concat([head, ...binary]);
  }

  return async (app) => {
    app.decorateRequest('headRequirements', null);
    // One parser for whatever the client calls its body, or doesn't: the header tells JSON from
    // binary, and Triton's client sends no Content-Type at all.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', readWhole(app.shared.inFlight, service.config.MAX_BODY_BYTES));
    for (const [path, params] of MODEL_PATHS) {
      app.post(
        `${path}/infer`,
        {
          config: { classifies: true, documented: { body: REQUEST_BODY } },
          // Before the body is read: a budget in the head may be refused at once.
          onRequest(request, _reply, done) {
            jsonLengthOf(request);
            // Whatever the body is called: see the parser.
            request.raw.headers['content-type'] = 'application/octet-stream';
            const { arrivedAt } = request;
            request.headRequirements = headRequirementsOf(request.headers);
            const { budgetMs } = request.headRequirements;
            const asks = budgetMs === undefined ? null : { arrivedAt, budgetMs, minAccuracy: 0 };
            const entered: Entering = (error, refusal) => {
              if (error) return done(error);
              assertModel(request.params as ModelParams, request.deployment!.manifest);
              if (refusal) return done(fromRefusal(refusal));
              done();
            };
            serveBy(service, request, asks, entered);
          },
          serializerCompiler: () => JSON.stringify,
          schema: {
            summary: 'Classify tensors or encoded images within a latency budget',
            description:
              'With Inference-Header-Content-Length, the body is that many bytes of JSON and then ' +
              'the binary tensor (0: the tensor alone); answers are binary where binary_data asks ' +
              'for it.',
            params,
            response: {
              200: {
                description: 'The outputs; application/octet-stream where any of them is binary',
                content: {
                  'application/json': { schema: InferResponse },
                  'application/octet-stream': { schema: { type: 'string', format: 'binary' } },
                },
              },
              ...v2Errors(400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504),
            },
          },
        },
        answer,
      );
    }
  };
}
