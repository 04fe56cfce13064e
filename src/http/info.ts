import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { Static } from 'typebox';
import { Type } from '../json-schema.ts';
import type { Service } from '../service.ts';
import { rounded } from './answer.ts';
import { Alive, ModelInfo, Ready, problems } from './schemas.ts';

/** What the service tells of itself: model and health. */
export function infoRoutes(service: Service): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/model',
      {
        schema: {
          summary: 'Manifest, tiers and latency table',
          response: { 200: ModelInfo, ...problems(401, 429) },
        },
      },
      async () => {
        const { config } = service;
        const { update, deployment } = service.status();
        const { manifest, tiers, latency } = deployment;
        return {
          // What the schema does not name is left out.
          ...deployment,
          manifest: manifest as unknown as Static<typeof ModelInfo>['manifest'],
          tiers: tiers.map((tier) => ({ ...tier, budgetMs: rounded(tier.budgetMs) })),
          latency: latency.table,
          latencyNow: latency.present,
          slowdown: latency.slowdown,
          spread: latency.spread,
          delayMs: latency.delay,
          holdUp: latency.holdUp,
          update,
          decoders: config.MAX_DECODES,
          engineWorkers: config.ENGINE_WORKERS,
          maxBatch: config.MAX_BATCH,
        };
      },
    );

    app.get(
      '/health/live',
      {
        config: { open: true },
        schema: { summary: 'The process answers', response: { 200: Alive } },
      },
      async () => ({ status: 'live' as const }),
    );

    app.get(
      '/health/ready',
      {
        config: { open: true },
        schema: {
          summary: 'The service takes requests',
          response: { 200: Ready, 503: Ready },
        },
      },
      async (_request, reply) => {
        const { state, deployment } = service.status();
        const { provider, fallback } = deployment;
        return reply
          .code(state === 'ready' ? 200 : 503)
          .send({ status: state, provider, fallback });
      },
    );
  };
}

/** `GET /metrics`. */
export function metricsRoute(service: Service): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/metrics',
      {
        schema: {
          summary: 'Prometheus metrics',
          response: {
            200: { content: { 'text/plain': { schema: Type.String() } } },
            ...problems(401, 429),
          },
        },
      },
      async (_request, reply) => {
        service.recorder.flush();
        const { registry } = service.metrics;
        return reply.type(registry.contentType).send(await registry.metrics());
      },
    );
  };
}
