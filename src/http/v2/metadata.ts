import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply } from 'fastify';
import type { TSchema } from 'typebox';
import { Type } from '../../json-schema.ts';
import type { Manifest } from '../../model/manifest.ts';
import type { Service } from '../../service.ts';
import { describeConfig, describeModel, describeServer } from './describe.ts';
import { MODEL_PATHS, assertModel } from './model.ts';
import {
  ModelConfig,
  ModelMetadata,
  ModelStatistics,
  ServerMetadata,
  v2Errors,
} from './schemas.ts';

const Live = Type.Object({ live: Type.Boolean() });
const ServerReady = Type.Object({ ready: Type.Boolean() });
const ModelReady = Type.Object({ name: Type.String(), ready: Type.Boolean() });

/** What the protocol's clients ask before they infer: metadata, health, config, statistics. */
export function metadataRoutes(service: Service, version: string): FastifyPluginAsyncTypebox {
  const statistics = (manifest: Manifest) => ({
    model_stats: [service.tritonStatistics.report(manifest)],
  });
  const sendReady = (reply: FastifyReply, of: { readonly name?: string } = {}) => {
    const ready = service.state === 'ready';
    return reply.code(ready ? 200 : 503).send({ ...of, ready });
  };

  return async (app) => {
    app.get(
      '',
      {
        schema: {
          summary: 'Server metadata',
          response: { 200: ServerMetadata, ...v2Errors(401, 429) },
        },
      },
      async () => describeServer(version),
    );
    app.get(
      '/health/live',
      {
        config: { open: true },
        schema: { summary: 'The process answers', response: { 200: Live } },
      },
      async () => ({ live: true }),
    );
    app.get(
      '/health/ready',
      {
        config: { open: true },
        schema: {
          summary: 'The service takes requests',
          response: { 200: ServerReady, 503: ServerReady },
        },
      },
      async (_request, reply) => sendReady(reply),
    );

    app.get(
      '/models/stats',
      {
        schema: {
          summary: 'Statistics of all models',
          response: { 200: ModelStatistics, ...v2Errors(401, 429) },
        },
      },
      async () => statistics(service.manifest),
    );

    for (const [path, params] of MODEL_PATHS) {
      const ofModel = (
        suffix: string,
        { summary, response }: { summary: string; response: Record<number, TSchema> },
        answer: (manifest: Manifest, reply: FastifyReply) => object,
      ) =>
        app.get(
          `${path}${suffix}`,
          {
            schema: {
              summary,
              params,
              response: { ...response, ...v2Errors(401, 404, 429) },
            },
          },
          async (request, reply) => {
            assertModel(request.params, service.manifest);
            return answer(service.manifest, reply);
          },
        );

      ofModel('', { summary: 'Model metadata', response: { 200: ModelMetadata } }, describeModel);
      ofModel(
        '/ready',
        { summary: 'The model takes requests', response: { 200: ModelReady, 503: ModelReady } },
        ({ name }, reply) => sendReady(reply, { name }),
      );
      ofModel(
        '/config',
        {
          summary: "Model configuration, as Triton's load generator reads it",
          response: { 200: ModelConfig },
        },
        () => describeConfig(service),
      );
      ofModel(
        '/stats',
        { summary: 'Statistics since this version is served', response: { 200: ModelStatistics } },
        statistics,
      );
    }
  };
}
