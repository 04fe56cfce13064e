/** What the protocol's metadata say, in the form that REST and gRPC share. */
import type { Static } from 'typebox';
import { batchSizesOf } from '../../config.ts';
import type { Manifest } from '../../model/manifest.ts';
import type { Service } from '../../service.ts';
import { IMAGE_TYPES } from '../images.ts';
import { OUTPUTS } from './outputs.ts';
import type { ModelConfig, ModelMetadata, ServerMetadata } from './schemas.ts';

const PLATFORM = 'onnxruntime_onnx';
const EXTENSIONS = [
  'binary_tensor_data',
  'classification',
  'model_configuration',
  'parameters',
  'statistics',
];

export function describeServer(version: string): Static<typeof ServerMetadata> {
  return { name: 'depthserve', version, extensions: EXTENSIONS };
}

/** The input is listed as pixels; that it may be encoded images, too, is a property. */
export function describeModel(manifest: Manifest): Static<typeof ModelMetadata> {
  const { name, version, input, labels } = manifest;
  return {
    name,
    versions: [version],
    platform: PLATFORM,
    inputs: [{ name: input.name, datatype: 'UINT8', shape: [-1, input.height, input.width, 3] }],
    outputs: Object.keys(OUTPUTS).map((output) => ({
      name: output,
      datatype: 'FP32',
      shape: [-1, labels.length],
    })),
    properties: propertiesOf(manifest),
  };
}

export function describeConfig(service: Service): Static<typeof ModelConfig> {
  const { config, manifest } = service;
  const { provider, tiers } = service.status().deployment;
  const { name, input, labels } = manifest;
  const parameters = {
    sub_networks: tiers.map(({ skip }) => skip).join(','),
    ...propertiesOf(manifest),
  };
  return {
    name,
    platform: PLATFORM,
    backend: 'onnxruntime',
    max_batch_size: config.MAX_IMAGES_PER_REQUEST,
    input: [{ name: input.name, data_type: 'TYPE_UINT8', dims: [input.height, input.width, 3] }],
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
      preferred_batch_size: [...batchSizesOf(config)],
    },
    parameters: Object.fromEntries(
      Object.entries(parameters).map(([key, value]) => [key, { string_value: value }]),
    ),
  };
}

function propertiesOf({ input }: Manifest): Record<string, string> {
  return {
    [`${input.name}.datatypes`]: 'UINT8,BYTES',
    [`${input.name}.BYTES.shape`]: '[-1]',
    [`${input.name}.BYTES.content_types`]: IMAGE_TYPES.slice(0, 3).join(','),
  };
}
