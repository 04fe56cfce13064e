import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from '../../json-schema.ts';
import type { Service } from '../../service.ts';
import { describeConfig, describeModel, describeServer } from './describe.ts';
import { MODEL_PATHS, ModelParams, assertModel } from './model.ts';
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
  const isReady = () => service.state === 'ready';
  const served = (params: ModelParams) => {
    assertModel(params, service.manifest);
    return service.manifest;
  };

  return async (app) => {
    app.get(
      '',
      { schema: { summary: 'Server metadata', response: { 200: ServerMetadata } } },
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
      async (_request, reply) => reply.code(isReady() ? 200 : 503).send({ ready: isReady() }),
    );

    app.get(
      '/models/stats',
      { schema: { summary: 'Statistics of all models', response: { 200: ModelStatistics } } },
      async () => {
        return { model_stats: [service.tritonStatistics.report(service.manifest)] };
      },
    );

    for (const path of MODEL_PATHS) {
      app.get(
        path,
        {
          schema: {
            summary: 'Model metadata',
            params: ModelParams,
            response: { 200: ModelMetadata, ...v2Errors(404) },
          },
        },
        async ({ params }) => describeModel(served(params)),
      );
      app.get(
        `${path}/ready`,
        {
          schema: {
            summary: 'The model takes requests',
            params: ModelParams,
            response: { 200: ModelReady, ...v2Errors(404), 503: ModelReady },
          },
        },
        async ({ params }, reply) => {
          const { name } = served(params);
          return reply.code(isReady() ? 200 : 503).send({ name, ready: isReady() });
        },
      );
      app.get(
        `${path}/config`,
        {
          schema: {
            summary: "Model configuration, as Triton's load generator reads it",
            params: ModelParams,
            response: { 200: ModelConfig, ...v2Errors(404) },
          },
        },
        async ({ params }) => {
          served(params);
          return describeConfig(service);
        },
      );
      app.get(
        `${path}/stats`,
        {
          schema: {
            summary: 'Statistics since this version is served',
            params: ModelParams,
            response: { 200: ModelStatistics, ...v2Errors(404) },
          },
        },
        async ({ params }) => {
          return { model_stats: [service.tritonStatistics.report(served(params))] };
        },
      );
    }
  };
}
