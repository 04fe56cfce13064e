import { availableParallelism } from 'node:os';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ErrorObject } from 'ajv';
import type { Static } from 'typebox';
import { newAjv } from './json.ts';
import { Type } from './json-schema.ts';

/** Batch sizes that are warmed up and measured, up to MAX_BATCH. */
export const BATCH_SIZES = [1, 2, 4, 8, 16, 32] as const;

/** Those that may be run. */
export const batchSizesOf = ({ MAX_BATCH }: Pick<Config, 'MAX_BATCH'>): readonly number[] =>
  BATCH_SIZES.filter((size) => size <= MAX_BATCH);

const integer = (
  description: string,
  range: { readonly default: number; readonly minimum: number; readonly maximum: number },
) => Type.Integer({ description, ...range });

/** Unless more are asked for: a container sees all cores of its node, whatever it may use. */
const MAX_FRONTS = 4;

/** Taken in upper or lower case. */
const oneOf = <Name extends string>(description: string, fallback: Name, names: readonly Name[]) =>
  Type.Unsafe<Name>({ type: 'string', enum: names, description, default: fallback });

/** The model that the package brings, wherever it is installed. */
const SHIPPED_MODEL = fileURLToPath(new URL('../models/grocery', import.meta.url));

/** Every setting is an environment variable and, as `--kebab-case`, a flag of `depthserve serve`. */
export const Settings = Type.Object({
  HOST: Type.String({
    description: 'Address to listen on; :: for IPv6 and IPv4, localhost for 127.0.0.1',
    default: '0.0.0.0',
  }),
  PORT: integer('Port to listen on; 0 picks a free one', {
    default: 8080,
    minimum: 0,
    maximum: 65_535,
  }),
  MODEL_DIR: Type.String({
    description: 'Folder with model.json (the manifest) and the ONNX file that it names',
    default: SHIPPED_MODEL,
    minLength: 1,
  }),
  MODEL_POLL_SECONDS: integer(
    'Seconds between two looks for a new version in MODEL_DIR; 0: only when SIGHUP asks for it',
    { default: 10, minimum: 0, maximum: 3600 },
  ),
  EXECUTION_PROVIDER: oneOf(
    'auto: CUDA where it loads, else the CPU; cuda: no start without CUDA; cpu: the CPU',
    'auto',
    ['auto', 'cuda', 'cpu'],
  ),
  ENGINE_WORKERS: integer(
    'Engine workers, each with a session and a thread of its own; 0: one for every two cores',
    { default: 0, minimum: 0, maximum: 64 },
  ),
  INTRA_OP_THREADS: integer('Threads that one inference uses on the CPU', {
    default: 1,
    minimum: 1,
    maximum: 256,
  }),
  ENGINE_HANG_MS: integer(
    'Time, in ms, after which a batch is given up and its worker replaced; never less than 20 times ' +
      'what the slowest batch took at start',
    { default: 5000, minimum: 100, maximum: 3_600_000 },
  ),
  LATENCY_CACHE: Type.String({
    description: 'Folder that keeps measured latencies, for a quicker start; empty: none are kept',
    default: '',
  }),
  MAX_BATCH: integer('Max. images in one batch', { default: 32, minimum: 1, maximum: 32 }),
  DEFAULT_BUDGET_MS: Type.Number({
    description: 'Budget of requests that name none, in ms',
    default: 100,
    exclusiveMinimum: 0,
    maximum: 3_600_000,
  }),
  MAX_BODY_BYTES: integer('Max. bytes of a request body, unpacked', {
    default: 16 * 1024 ** 2,
    minimum: 1024,
    maximum: 1024 ** 3,
  }),
  MAX_BYTES_IN_FLIGHT: integer('Max. bytes of all request bodies in memory together', {
    default: 256 * 1024 ** 2,
    minimum: 1024,
    maximum: 64 * 1024 ** 3,
  }),
  MAX_CONNECTIONS: integer('Max. open connections; further ones are closed', {
    default: 10_000,
    minimum: 1,
    maximum: 1_000_000,
  }),
  FRONTS: integer(
    'Threads that speak HTTP; 1: the main thread does (always so with TOKENS_FILE or tracing); ' +
      `0: one for every four cores, max. ${MAX_FRONTS}`,
    { default: 0, minimum: 0, maximum: 64 },
  ),
  HEAD_TIMEOUT_MS: integer('Max. time for the head of a request to arrive, in ms', {
    default: 10_000,
    minimum: 100,
    maximum: 600_000,
  }),
  REQUEST_TIMEOUT_MS: integer('Max. time for a whole request to arrive, in ms', {
    default: 60_000,
    minimum: 100,
    maximum: 3_600_000,
  }),
  MAX_IMAGE_PIXELS: integer('Max. pixels of an image, width x height', {
    default: 50_000_000,
    minimum: 1024,
    maximum: 1_000_000_000,
  }),
  MAX_IMAGES_PER_REQUEST: integer('Max. images in one request', {
    default: 64,
    minimum: 1,
    maximum: 4096,
  }),
  MAX_DECODES: integer('Max. images decoded at the same time; 0: one for every core', {
    default: 0,
    minimum: 0,
    maximum: 1024,
  }),
  SECOND_LOOKS: oneOf(
    'on: where an answer is unsure, the most accurate sub-network looks again, if time allows; ' +
      'off: never, not even for X-Min-Confidence',
    'on',
    ['on', 'off'],
  ),
  SHADOW_CHECKS_PER_MINUTE: integer(
    'Max. answers of shallower sub-networks that the super-net checks in a minute, while the engines ' +
      'are idle and in a session of its own; 0: none',
    { default: 0, minimum: 0, maximum: 600 },
  ),
  FEEDBACK_CAPACITY: integer(
    'Max. answers remembered for POST /feedback; 0: no feedback is taken',
    { default: 10_000, minimum: 0, maximum: 1_000_000 },
  ),
  GPU_SAMPLE_SECONDS: integer('Seconds between two readings of nvidia-smi; 0: none', {
    default: 10,
    minimum: 0,
    maximum: 3600,
  }),
  INTERNAL_PORT: integer(
    'Separate port for /metrics, /docs and /openapi.json, without tokens; 0: they are on PORT',
    { default: 0, minimum: 0, maximum: 65_535 },
  ),
  GRPC_PORT: integer('Port for the Open Inference Protocol over gRPC, without TLS; 0: none', {
    default: 0,
    minimum: 0,
    maximum: 65_535,
  }),
  TOKENS_FILE: Type.String({
    description: 'JSON file with the tokens that may enter (docs/security.md); empty: anyone may',
    default: '',
  }),
  CORS_ORIGINS: Type.String({
    description:
      'Origins whose pages may use the service, with commas between; *: all; empty: none',
    default: '',
  }),
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.String({
    description:
      'Collector that spans are sent to by OTLP/HTTP, e.g. http://collector:4318; empty: no tracing',
    default: '',
  }),
  DRAIN_TIMEOUT_MS: integer('Max. wait for accepted requests at shutdown, in ms', {
    default: 25_000,
    minimum: 100,
    maximum: 600_000,
  }),
  LOG_LEVEL: oneOf(
    'Min. severity that is logged, of fatal (highest), error, warn, info, debug, trace; silent: none',
    'info',
    ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
  ),
  LOG_FORMAT: oneOf('auto: text on a terminal, else json: one object a line', 'auto', [
    'auto',
    'json',
    'text',
  ]),
});

export type Config = Readonly<Static<typeof Settings>>;

/** A setting is missing or out of range; the message names it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Reads and checks the settings, and fills in those that depend on the machine.
 *
 * @throws {ConfigError} naming every variable at fault.
 */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const config: unknown = lowered(env);
  // Settings are text, of which others are none of ours.
  const ajv = newAjv({
    coerceTypes: true,
    useDefaults: true,
    removeAdditional: 'all',
    allErrors: true,
  });
  if (!ajv.validate<Config>(Settings, config)) {
    throw new ConfigError(ajv.errors!.map(explain).join(', '));
  }
  const cores = availableParallelism();
  return {
    ...config,
    FRONTS: config.FRONTS || Math.min(MAX_FRONTS, Math.max(1, Math.floor(cores / 4))),
    // The other half of the cores decodes images and speaks HTTP.
    ENGINE_WORKERS: config.ENGINE_WORKERS || Math.max(1, Math.floor(cores / 2)),
    MAX_DECODES: config.MAX_DECODES || cores,
  };
}

function explain({ instancePath, message, params }: ErrorObject): string {
  const why = params['allowedValues']
    ? `must be one of ${params['allowedValues'].join(', ')}`
    : message;
  const name = instancePath.slice(1);
  return `${name} (--${flagOf(name)}) ${why}`;
}

/** Names of enumerations in lower case, as the schema has them. */
function lowered(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const named = Object.entries(Settings.properties).flatMap(([name, schema]) => {
    const value = 'enum' in schema ? env[name] : undefined;
    return value === undefined ? [] : [[name, value.trim().toLowerCase()]];
  });
  return { ...env, ...Object.fromEntries(named) };
}

/** A setting as the command line and docs/settings.md show it: its schema, and its names. */
export interface Setting {
  /** The environment variable. */
  readonly name: string;
  /** Without the two dashes. */
  readonly flag: string;
  readonly description: string;
  readonly default: string | number;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  /** Instead of `minimum`: it is above this. */
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
}

function flagOf(name: string): string {
  return name.toLowerCase().replaceAll('_', '-');
}

/** Every setting, in the order of the table above. */
export const SETTINGS: readonly Setting[] = Object.entries(Settings.properties).map(
  ([name, property]) => {
    const schema = property as unknown as Omit<Setting, 'name' | 'flag'>;
    const shown = name === 'MODEL_DIR' ? relative('', SHIPPED_MODEL) : schema.default;
    return { ...schema, name, flag: flagOf(name), default: shown };
  },
);
