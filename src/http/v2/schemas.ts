/** The shapes of the Open Inference Protocol (version 2) with Triton's extensions. */
import type { Static } from 'typebox';
import { Type } from '../../json-schema.ts';
import { errorsAs, integer, number, text } from '../schemas.ts';

/** Those that mean something here are checked where they are read; others may be anything. */
const Parameters = Type.Record(Type.String(), Type.Unknown());

export const InferInput = Type.Object(
  {
    name: Type.String(),
    shape: Type.Array(Type.Integer(), { maxItems: 8 }),
    datatype: text('UINT8 for pixels, BYTES for JPEG, PNG or WebP files'),
    parameters: Type.Optional(Parameters),
    data: Type.Optional(
      Type.Array(Type.Unknown(), {
        description:
          'UINT8: integers, nested or flat, row-major. BYTES: base64 strings. ' +
          'Absent when parameters.binary_data_size says that the tensor follows the JSON.',
      }),
    ),
  },
  { title: 'InferInput' },
);
export type InferInput = Static<typeof InferInput>;

export const InferRequest = Type.Object(
  {
    id: Type.Optional(Type.String({ maxLength: 128 })),
    parameters: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), {
        description:
          'timeout (microseconds) or latency_budget_ms: the latency budget; min_accuracy: 0 to 1; min_confidence: 0 to 1; ' +
          'skip: the sub-network that must answer; binary_data_output: all outputs in binary. ' +
          'Those of extensions that are not offered are refused, others ignored.',
      }),
    ),
    inputs: Type.Array(InferInput, { minItems: 1, maxItems: 1 }),
    outputs: Type.Optional(
      Type.Array(Type.Object({ name: Type.String(), parameters: Type.Optional(Parameters) }), {
        maxItems: 8,
        description:
          'logits, probabilities; absent: both. parameters.classification = k asks for the k best ' +
          'as "value:index:label"; parameters.binary_data for a binary tensor.',
      }),
    ),
  },
  { title: 'InferRequest' },
);
export type InferRequest = Static<typeof InferRequest>;

export const InferOutput = Type.Object(
  {
    name: Type.String(),
    shape: Type.Array(Type.Integer()),
    datatype: Type.String(),
    parameters: Type.Optional(Parameters),
    data: Type.Optional(Type.Array(Type.Union([Type.Number(), Type.String()]))),
  },
  { title: 'InferOutput' },
);
export type InferOutput = Static<typeof InferOutput>;

export const InferResponse = Type.Object(
  {
    id: Type.String(),
    model_name: Type.String(),
    model_version: Type.String(),
    parameters: Type.Object({
      sub_network: text('Skip flags; one for each image, separated by commas, where they differ'),
      expected_accuracy: number('Mean over the images'),
      confidence: text('Calibrated, 0 to 1; one for each image, separated by commas'),
      looks: text('Sub-networks that looked, as TT>FF; one entry for each image'),
      budget_ms: Type.Number(),
      budget_met: Type.Boolean(),
      predicted_ms: number('From arrival to result, predicted at dispatch'),
      actual_ms: number('From arrival to answer'),
      decode_ms: Type.Number(),
      queue_ms: Type.Number(),
      inference_ms: Type.Number(),
    }),
    outputs: Type.Array(InferOutput),
  },
  { title: 'InferResponse' },
);
export type InferResponse = Static<typeof InferResponse>;

const V2Error = Type.Object(
  { error: text('"<code>: what happened, and what to do"') },
  { title: 'InferError' },
);

export const v2Errors = errorsAs(
  'application/json',
  V2Error,
  'In the form of the Open Inference Protocol',
);

export const ServerMetadata = Type.Object(
  {
    name: Type.String(),
    version: Type.String(),
    extensions: Type.Array(Type.String()),
  },
  { title: 'ServerMetadata' },
);

const TensorMetadata = Type.Object(
  {
    name: Type.String(),
    datatype: Type.String(),
    shape: Type.Array(Type.Integer(), { description: '-1: any number of images' }),
  },
  { title: 'TensorMetadata' },
);

export const ModelMetadata = Type.Object(
  {
    name: Type.String(),
    versions: Type.Array(Type.String()),
    platform: Type.String(),
    inputs: Type.Array(TensorMetadata),
    outputs: Type.Array(TensorMetadata),
    properties: Type.Record(Type.String(), Type.String(), {
      description: 'Which datatypes the input takes: files of which types as BYTES',
    }),
  },
  { title: 'ModelMetadata' },
);

const TensorConfig = Type.Object(
  {
    name: Type.String(),
    data_type: Type.String(),
    dims: Type.Array(Type.Integer()),
  },
  { title: 'TensorConfig' },
);

export const ModelConfig = Type.Object(
  {
    name: Type.String(),
    platform: Type.String(),
    backend: Type.String(),
    max_batch_size: Type.Integer(),
    input: Type.Array(TensorConfig),
    output: Type.Array(TensorConfig),
    instance_group: Type.Array(
      Type.Object({ name: Type.String(), kind: Type.String(), count: Type.Integer() }),
    ),
    dynamic_batching: Type.Object({ preferred_batch_size: Type.Array(Type.Integer()) }),
    parameters: Type.Record(Type.String(), Type.Object({ string_value: Type.String() })),
  },
  { title: 'ModelConfig' },
);

const Duration = Type.Object({ count: Type.Integer(), ns: Type.Integer() });

export const ModelStatistics = Type.Object(
  {
    model_stats: Type.Array(
      Type.Object({
        name: Type.String(),
        version: Type.String(),
        last_inference: integer('ms since 1970'),
        inference_count: integer('Images'),
        execution_count: integer('Batches'),
        inference_stats: Type.Object({
          success: Duration,
          fail: Duration,
          queue: Duration,
          compute_input: Duration,
          compute_infer: Duration,
          compute_output: Duration,
        }),
        batch_stats: Type.Array(
          Type.Object({
            batch_size: Type.Integer(),
            compute_input: Duration,
            compute_infer: Duration,
            compute_output: Duration,
          }),
        ),
      }),
    ),
  },
  { title: 'ModelStatistics' },
);
export type ModelStatistics = Static<typeof ModelStatistics>;
