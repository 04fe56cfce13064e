import { performance } from 'node:perf_hooks';
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify';
import type { Classified } from '../../deployment.ts';
import type { Service } from '../../service.ts';
import { rounded, serverTimingOf } from '../answer.ts';
import { budgetOf } from '../budget.ts';
import { cancelOnDisconnect } from '../disconnect.ts';
import type { Ledger } from '../ledger.ts';
import { fromRefusal } from '../problem.ts';
import { serveBy } from '../serving.ts';
import { readImages } from './inputs.ts';
import { readMessage } from './message.ts';
import { assertModel, MODEL_PATHS, ModelParams } from './model.ts';
import { outputsOf, wantedOutputs } from './outputs.ts';
import { InferRequest, InferResponse, v2Errors } from './schemas.ts';
import { wishOf } from './wish.ts';

/** `POST …/infer`: tensors or encoded images in, tensors out, within the request's budget. */
export function inferRoutes(service: Service, ledger: Ledger): FastifyPluginAsync {
  const { config } = service;

  async function infer(request: FastifyRequest, reply: FastifyReply): Promise<Buffer | object> {
    assertModel(request.params as ModelParams, service.manifest);
    const deployment = request.deployment!;
    const { manifest } = deployment;
    const length = request.headers['inference-header-content-length'];
    const body = (request.body as Buffer | undefined) ?? Buffer.alloc(0);
    const message = readMessage(body, length as string | undefined);
    const wish = wishOf(request, message.json, manifest, config.DEFAULT_BUDGET_MS);
    const wanted = wantedOutputs(message.json, manifest.labels.length);
    const input = readImages(message, {
      ...manifest.input,
      maxImages: config.MAX_IMAGES_PER_REQUEST,
    });

    const { arrivedAt } = request;
    const signal = cancelOnDisconnect(request, reply, ledger);
    const imageRequest = { ...wish, arrivedAt, signal };
    const results =
      input.kind === 'pixels'
        ? await deployment.classifyPixels(input.images, imageRequest)
        : await deployment.classify(input.images, imageRequest);

    const totalMs = performance.now() - arrivedAt;
    const id = message.json.id ?? request.id;
    const ids = results.map((_, index) => (results.length === 1 ? id : `${id}-${index}`));
    ledger.answered(request, ids, results, wish.budgetMs, totalMs);
    const logits = results.map(({ output }) => output);
    const { tensors, binary } = outputsOf(wanted, logits, manifest.labels);
    const parameters = parametersOf(results, wish.budgetMs, totalMs);
    reply.header('server-timing', serverTimingOf(results, totalMs));
    reply.header('x-sub-network', parameters.sub_network);
    const json: InferResponse = {
      id,
      model_name: manifest.name,
      model_version: manifest.version,
      parameters,
      outputs: [...tensors],
    };
    if (binary.length === 0) return json;

    const head = Buffer.from(JSON.stringify(json));
    reply.header('inference-header-content-length', head.length);
    reply.type('application/octet-stream');
    return Buffer.concat([head, ...binary]);
  }

  return async (app) => {
    // One parser for whatever the client calls its body, or doesn't: the header tells JSON from
    // binary, and Triton's client sends no Content-Type at all.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => {
      done(null, body);
    });
    for (const path of MODEL_PATHS) {
      app.post(
        `${path}/infer`,
        {
          config: { classifies: true },
          // Before the body is read: a budget in the head may be refused at once.
          onRequest(request, reply, done) {
            const { pipeline } = serveBy(service, request, reply);
            const { arrivedAt } = request;
            if (request.headers['x-latency-budget-ms'] === undefined) return done();
            const budgetMs = budgetOf(request, config.DEFAULT_BUDGET_MS);
            const refusal = pipeline.preview({ arrivedAt, budgetMs, minAccuracy: 0 });
            if (refusal) return done(fromRefusal(refusal));
            // Of two budgets the smaller one counts: the other may be in the body.
            request.uploadDue = arrivedAt + budgetMs;
            done();
          },
          // readMessage() validates: strictly, and only after JSON and tensors are taken apart.
          validatorCompiler: () => () => true,
          serializerCompiler: () => JSON.stringify,
          schema: {
            summary: 'Classify tensors or encoded images within a latency budget',
            description:
              'With Inference-Header-Content-Length, the body is that many bytes of JSON and then ' +
              'the binary tensor; answers are binary where binary_data asks for it.',
            params: ModelParams,
            body: {
              content: {
                'application/json': { schema: InferRequest },
                'application/octet-stream': { schema: { type: 'string', format: 'binary' } },
              },
            },
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
        infer,
      );
    }
  };
}

function parametersOf(
  results: readonly Classified[],
  budgetMs: number,
  totalMs: number,
): InferResponse['parameters'] {
  const skips = results.map(({ tier }) => tier.skip);
  const most = (of: (result: Classified) => number) => rounded(Math.max(...results.map(of)));
  const accuracy = results.reduce((sum, { tier }) => sum + tier.accuracy, 0) / results.length;
  return {
    sub_network: new Set(skips).size === 1 ? skips[0]! : skips.join(','),
    expected_accuracy: Math.round(accuracy * 1e6) / 1e6,
    budget_ms: budgetMs,
    budget_met: totalMs <= budgetMs,
    predicted_ms: most(({ predictedMs }) => predictedMs),
    actual_ms: rounded(totalMs),
    decode_ms: most(({ decodeMs }) => decodeMs),
    queue_ms: most(({ queueMs }) => queueMs),
    inference_ms: most(({ inferenceMs }) => inferenceMs),
  };
}
