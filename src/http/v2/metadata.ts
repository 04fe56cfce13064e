import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { BATCH_SIZES } from '../../config.ts';
import type { Service } from '../../service.ts';
import { MODEL_PATHS, ModelParams, assertModel } from './model.ts';
import { OUTPUTS } from './outputs.ts';
import {
  ModelConfig,
  ModelMetadata,
  ModelStatistics,
  ServerMetadata,
  v2Errors,
} from './schemas.ts';

const PLATFORM = 'onnxruntime_onnx';
const EXTENSIONS = [
  'binary_tensor_data',
  'classification',
  'model_configuration',
  'parameters',
  'statistics',
];

const Live = Type.Object({ live: Type.Boolean() });
const ServerReady = Type.Object({ ready: Type.Boolean() });
const ModelReady = Type.Object({ name: Type.String(), ready: Type.Boolean() });

/** What the protocol's clients ask before they infer: metadata, health, config, statistics. */
export function metadataRoutes(service: Service, version: string): FastifyPluginAsyncTypebox {
  const { config } = service;
  const isReady = () => service.state === 'ready';
  const served = (params: ModelParams) => {
    assertModel(params, service.manifest);
    return service.manifest;
  };

  return async (app) => {
    app.get(
      '',
      { schema: { summary: 'Server metadata', response: { 200: ServerMetadata } } },
      async () => ({ name: 'depthserve', version, extensions: EXTENSIONS }),
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
        async ({ params }) => {
          const { name, version, input, labels } = served(params);
          return {
            name,
            versions: [version],
            platform: PLATFORM,
            inputs: [
              { name: input.name, datatype: 'UINT8', shape: [-1, input.height, input.width, 3] },
            ],
            outputs: Object.keys(OUTPUTS).map((output) => ({
              name: output,
              datatype: 'FP32',
              shape: [-1, labels.length],
            })),
          };
        },
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
          const { name, input, labels } = served(params);
          const { provider, tiers } = service.status().deployment;
          return {
            name,
            platform: PLATFORM,
            backend: 'onnxruntime',
            max_batch_size: config.MAX_IMAGES_PER_REQUEST,
            input: [
              { name: input.name, data_type: 'TYPE_UINT8', dims: [input.height, input.width, 3] },
            ],
            output: Object.keys(OUTPUTS).map((output) => ({
              name: output,
              data_type: 'TYPE_FP32',
              dims: [labels.length],
            })),
            instance_group: [
              {
                name,
                kind: provider === 'cuda' ? 'KIND_GPU' : 'KIND_CPU',
                count: config.ENGINE_WORKERS,
              },
            ],
            dynamic_batching: {
              preferred_batch_size: BATCH_SIZES.filter((size) => size <= config.MAX_BATCH),
            },
            parameters: {
              sub_networks: {
                string_value: tiers.map(({ skip }) => skip).join(','),
              },
            },
          };
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
