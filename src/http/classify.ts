import { performance } from 'node:perf_hooks';
import type { Readable } from 'node:stream';
import multipart from '@fastify/multipart';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { ServeError } from '../errors.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import type { Service } from '../service.ts';
import { answerOf, serverTimingOf } from './answer.ts';
import { budgetOf, minAccuracyOf, minConfidenceOf } from './budget.ts';
import { cancelOnDisconnect } from './disconnect.ts';
import { readForm } from './form.ts';
import { FORM_TYPE, IMAGE_TYPES, imagesOf } from './images.ts';
import { refuseEarly } from './problem.ts';
import { serveBy } from './serving.ts';
import { Answer, Answers, RequestHeaders, problems } from './schemas.ts';

const DEFAULT_TOP_K = 5;

/** One image as the body, or several as parts. */
const REQUEST_BODY = {
  content: Object.fromEntries([
    ...IMAGE_TYPES.map((type) => [type, { schema: { type: 'string', format: 'binary' } }]),
    [
      FORM_TYPE,
      {
        schema: Type.Object({
          image: Type.Array(Type.Unsafe<string>({ type: 'string', format: 'binary' }), {
            minItems: 1,
          }),
        }),
      },
    ],
  ]),
};

/** `POST /classify`: images and a latency budget in, labels and how they came about out. */
export function classifyRoute(service: Service): FastifyPluginAsyncTypebox {
  const { config } = service;
  const imageRequestOf = (request: FastifyRequest): ImageRequest => ({
    arrivedAt: request.arrivedAt,
    budgetMs: budgetOf(request, config.DEFAULT_BUDGET_MS),
    minAccuracy: minAccuracyOf(request),
    minConfidence: minConfidenceOf(request),
  });

  return async (app) => {
    // Fastify's own parsers would let text and JSON through to us.
    app.removeContentTypeParser(['application/json', 'text/plain']);
    app.addContentTypeParser(IMAGE_TYPES, { parseAs: 'buffer' }, (_request, body, done) => {
      done(null, body);
    });
    await app.register(multipart);
    // The plugin leaves the body alone until the handler asks; ours is read like any other body.
    app.removeContentTypeParser(FORM_TYPE);
    app.addContentTypeParser(FORM_TYPE, async (request: FastifyRequest, body: Readable) =>
      readForm(request, body, {
        maxImages: config.MAX_IMAGES_PER_REQUEST,
        maxBytes: config.MAX_BODY_BYTES,
      }),
    );

    app.post(
      '/classify',
      {
        config: { classifies: true, documented: { headers: RequestHeaders, body: REQUEST_BODY } },
        schema: {
          summary: 'Classify images within a latency budget',
          description:
            'The body is an image (image/jpeg, image/png, image/webp, or application/octet-stream), ' +
            'or multipart/form-data with one or more files in "image".',
          querystring: Type.Object({
            topK: Type.Optional(
              Type.Integer({
                minimum: 1,
                maximum: 1000,
                description: `Number of predictions; absent: ${DEFAULT_TOP_K}`,
              }),
            ),
          }),
          response: {
            200: {
              description: 'One image: Answer. Several: Answers.',
              content: { 'application/json': { schema: Type.Union([Answer, Answers]) } },
            },
            ...problems(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
          },
        },
        // Before the body is read: under overload most requests end here.
        onRequest(request, reply, done) {
          // `curl -T` and others name no type.
          request.raw.headers['content-type'] ??= 'application/octet-stream';
          const { pipeline } = serveBy(service, request, reply);
          const [type] = request.raw.headers['content-type'].split(';', 1) as [string];
          if (!app.hasContentTypeParser(type.trim().toLowerCase())) {
            const detail = `The body is called ${JSON.stringify(type.slice(0, 60))}.`;
            return done(new ServeError('unsupported-media-type', detail));
          }
          const unknown = Object.keys(request.query).find((name) => name !== 'topK');
          if (unknown !== undefined) {
            const detail = `There is no query parameter ${JSON.stringify(unknown.slice(0, 40))}, only topK.`;
            return done(new ServeError('bad-request', detail));
          }
          const imageRequest = imageRequestOf(request);
          request.trace?.asks(imageRequest.budgetMs);
          const refusal = pipeline.preview(imageRequest);
          if (refusal) return refuseEarly(refusal, request, reply);
          request.uploadDue = imageRequest.arrivedAt + imageRequest.budgetMs;
          done();
        },
        // The schema documents; checking each answer against a union would cost more than it finds.
        serializerCompiler: () => JSON.stringify,
      },
      async (request, reply) => {
        const files = imagesOf(request);
        const signal = cancelOnDisconnect(request, reply, service);
        const imageRequest = { ...imageRequestOf(request), signal };
        const { budgetMs } = imageRequest;
        const results = await request.deployment!.classify(files, imageRequest);

        const totalMs = performance.now() - request.arrivedAt;
        const answers = results.map((result, index) => {
          const id = results.length === 1 ? request.id : `${request.id}-${index}`;
          return answerOf(id, result, budgetMs, totalMs, request.query.topK ?? DEFAULT_TOP_K);
        });
        const ids = answers.map(({ id }) => id);
        const outcome = { ids, images: results, isPinned: false, budgetMs, totalMs };
        request.outcome = service.recorder.answered(outcome);
        request.trace?.ran(results, budgetMs);
        reply.header('server-timing', serverTimingOf(results, totalMs));
        reply.header(
          'x-sub-network',
          [...new Set(results.map(({ tier }) => tier.skip))].join(', '),
        );
        return answers.length === 1 ? answers[0]! : { results: answers };
      },
    );
  };
}
