import { performance } from 'node:perf_hooks';
import type { Readable } from 'node:stream';
import multipart from '@fastify/multipart';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyRequest } from 'fastify';
import { ServeError } from '../errors.ts';
import { Type } from '../json-schema.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import { answerOf, serverTimingOf, subNetworksOf } from './answer.ts';
import { headRequirementsOf } from './budget.ts';
import { boundaryOf } from './delimiters.ts';
import { cancelOnDisconnect } from './disconnect.ts';
import { readForm } from './form.ts';
import { readWhole } from './bodies.ts';
import { FORMAT_OF_TYPE, FORM_TYPE, IMAGE_TYPES, imagesOf } from './images.ts';
import { refuseEarly } from './problem.ts';
import { isShort, serveBy } from './serving.ts';
import type { Entering, Serving } from './serving.ts';
import { Answer, Answers, RequestHeaders, problems } from './schemas.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** What the head of a request to /classify asks for. */
    imageRequest: ImageRequest | null;
  }
}

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

const TAKEN: ReadonlySet<string> = new Set([...IMAGE_TYPES, FORM_TYPE]);

/** A Content-Type without its parameters. */
function mediaTypeOf(contentType: string): string {
  if (TAKEN.has(contentType)) return contentType;
  return contentType.split(';', 1)[0]!.trim().toLowerCase();
}

/**
 * What Fastify checks only when it has read the body.
 *
 * @throws {ServeError} bad-request
 */
function assertQuery(request: FastifyRequest): void {
  const validate = request.getValidationFunction('querystring')!;
  if (!validate(request.query)) {
    const [error] = validate.errors!;
    throw badTopK(`querystring${error!.instancePath} ${error!.message}.`);
  }
  // Ajv takes Infinity for an integer, and for one within every range.
  const { topK = 1 } = request.query as { topK?: number };
  if (!Number.isFinite(topK)) throw badTopK('topK is not finite.');
}

const badTopK = (detail: string) =>
  new ServeError('bad-request', detail, {
    advice: 'Send topK once, as a whole number from 1 to 1000.',
  });

/** `POST /classify`: images and a latency budget in, labels and how they came about out. */
export function classifyRoute(service: Serving): FastifyPluginAsyncTypebox {
  const { config } = service;
  const imageRequestOf = (request: FastifyRequest): ImageRequest => {
    const needs = headRequirementsOf(request.headers);
    return {
      arrivedAt: request.arrivedAt,
      budgetMs: needs.budgetMs ?? config.DEFAULT_BUDGET_MS,
      minAccuracy: needs.minAccuracy ?? 0,
      skip: undefined,
      minConfidence: needs.minConfidence,
      format: FORMAT_OF_TYPE.get(request.raw.headers['content-type']),
      cancellation: undefined,
    };
  };

  return async (app) => {
    app.decorateRequest('imageRequest', null);
    // Fastify's own parsers would let text and JSON through to us.
    app.removeContentTypeParser(['application/json', 'text/plain']);
    app.addContentTypeParser(IMAGE_TYPES, readWhole(app.shared.inFlight, config.MAX_BODY_BYTES));
    await app.register(multipart);
    // The plugin leaves the body alone until the handler asks; ours is read like any other body.
    app.removeContentTypeParser(FORM_TYPE);
    app.addContentTypeParser(FORM_TYPE, async (request: FastifyRequest, body: Readable) =>
      readForm(request, body, config),
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
        // Before the body is read: under overload many requests end here.
        onRequest(request, reply, done) {
          // `curl -T` and others name no type, or an empty one.
          request.raw.headers['content-type'] ||= 'application/octet-stream';
          const type = request.raw.headers['content-type'];
          const mediaType = mediaTypeOf(type);
          if (!TAKEN.has(mediaType)) {
            const detail = `The body is called ${JSON.stringify(mediaType.slice(0, 60))}.`;
            return done(new ServeError('unsupported-media-type', detail));
          }
          if (mediaType === FORM_TYPE && boundaryOf(type) === null) {
            return done(new ServeError('bad-multipart', 'The Content-Type names no boundary.'));
          }
          const unknown = Object.keys(request.query).find((name) => name !== 'topK');
          if (unknown !== undefined) {
            const detail = `There is no query parameter ${JSON.stringify(unknown.slice(0, 40))}, only topK.`;
            return done(new ServeError('bad-request', detail));
          }
          assertQuery(request);
          const imageRequest = imageRequestOf(request);
          request.imageRequest = imageRequest;
          request.trace?.asks(imageRequest.budgetMs);
          const entered: Entering = (error, refusal) => {
            if (error) return done(error);
            if (refusal) return refuseEarly(refusal, request, reply, service.isClosing);
            done();
          };
          serveBy(service, request, imageRequest, entered, isShort(request));
        },
        // The schema documents; checking each answer against a union would cost more than it finds.
        serializerCompiler: () => JSON.stringify,
      },
      async (request, reply) => {
        const files = imagesOf(request);
        const imageRequest = request.imageRequest!;
        imageRequest.cancellation = cancelOnDisconnect(request, reply);
        const { budgetMs } = imageRequest;
        const results = await request.deployment!.classify(files, imageRequest);

        const totalMs = performance.now() - request.arrivedAt;
        const { topK = DEFAULT_TOP_K } = request.query;
        const ids = results.map((_, index) =>
          results.length === 1 ? request.id : `${request.id}-${index}`,
        );
        const answers = results.map((result, index) =>
          answerOf(ids[index]!, result, budgetMs, totalMs, topK),
        );
        const outcome = { ids, images: results, isPinned: false, budgetMs, totalMs };
        request.outcome = service.recorder.answered(outcome);
        request.trace?.ran(results, budgetMs);
        reply.header('server-timing', serverTimingOf(results, totalMs));
        reply.header('x-sub-network', subNetworksOf(results));
        return answers.length === 1 ? answers[0]! : { results: answers };
      },
    );
  };
}
