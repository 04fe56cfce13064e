import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { Static } from 'typebox';
import type { Service } from '../service.ts';
import { rounded } from './answer.ts';
import { Alive, ModelInfo, Ready } from './schemas.ts';

/** What the service tells of itself: model and health. */
export function infoRoutes(service: Service): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      '/model',
      { schema: { summary: 'Manifest, tiers and latency table', response: { 200: ModelInfo } } },
      async () => {
        const { deployment, manifest, config } = service;
        return {
          manifest: manifest as unknown as Static<typeof ModelInfo>['manifest'],
          tiers: (deployment?.front ?? []).map((tier) => ({
            ...tier,
            budgetMs: rounded(deployment!.budgetMs(tier)),
          })),
          latency: { ...deployment?.latency.table },
          latencyNow: deployment?.latency.present ?? {},
          slowdown: deployment?.latency.slowdown ?? 1,
          spread: deployment?.latency.spread ?? 1,
          delayMs: deployment?.latency.delay ?? 0,
          decodeMs: deployment?.decodeMs ?? 0,
          decoders: config.MAX_DECODES,
          provider: deployment?.engine.provider ?? null,
          update: service.lastUpdate,
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
        const { status, deployment } = service;
        return reply.code(status === 'ready' ? 200 : 503).send({
          status,
          provider: deployment?.engine.provider ?? null,
          fallback: deployment?.engine.fallback ?? null,
        });
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
          response: { 200: { content: { 'text/plain': { schema: Type.String() } } } },
        },
      },
      async (_request, reply) => {
        const { registry } = service.metrics;
        return reply.type(registry.contentType).send(await registry.metrics());
      },
    );
  };
}
