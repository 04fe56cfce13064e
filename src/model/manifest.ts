import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';

/** One of the 2^k sub-networks of the file. */
export interface SubNetwork {
  /** Skip flags, first stage first: `FFFF` is the super-net, `TTTT` the base-net. */
  readonly skip: string;
  /** Top-1 accuracy, 0 to 1; null when nobody measured it. */
  readonly top1: number | null;
  /** 95 % confidence interval of `top1`. */
  readonly top1CI: readonly [number, number] | null;
  /** Multiply-accumulates per image. */
  readonly macs: number;
  /** Parameters that this sub-network uses. */
  readonly params: number;
  readonly source: 'measured' | 'published' | 'unmeasured';
  readonly reference?: string;
}

/** `model.json`, written by `adaptive-depth export`; its schema is models/model.schema.json. */
export interface Manifest {
  readonly schemaVersion: 1;
  readonly name: string;
  readonly version: string;
  /** The ONNX file, beside the manifest. */
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly input: {
    readonly name: string;
    /** px */
    readonly height: number;
    /** px */
    readonly width: number;
    readonly resize: 'cover';
  };
  /** Names of the graph's scalar bool inputs, first stage first. */
  readonly flags: readonly string[];
  readonly labels: readonly string[];
  readonly subNetworks: readonly SubNetwork[];
  /** What the accuracies were measured on; null when nobody measured any. */
  readonly dataset: Readonly<Record<string, unknown>> | null;
  readonly training: Readonly<Record<string, unknown>>;
  readonly created: string;
}

/** What is served: a manifest and the path of its ONNX file. */
export interface Model {
  readonly manifest: Manifest;
  readonly file: string;
}

/** The model folder cannot be served; the message says what is wrong with which file. */
export class ModelError extends Error {
  override readonly name = 'ModelError';
}

const SCHEMA = new URL('../../models/model.schema.json', import.meta.url);

/**
 * Reads and checks a model folder: the manifest against its schema, the flags against the
 * sub-networks, the ONNX file against its sha256.
 *
 * @throws {ModelError}
 */
export async function loadManifest(folder: string): Promise<Model> {
  const path = join(folder, 'model.json');
  const manifest = await parse(path);

  const wanted = 2 ** manifest.flags.length;
  const names = new Set(manifest.subNetworks.map(({ skip }) => skip));
  const wrong = [...names].find((skip) => skip.length !== manifest.flags.length);
  if (wrong !== undefined) {
    throw new ModelError(`${path}: sub-network ${wrong} for ${manifest.flags.length} flags`);
  }
  if (names.size !== wanted || manifest.subNetworks.length !== wanted) {
    throw new ModelError(
      `${path}: ${names.size} different sub-networks listed, ${wanted} expected`,
    );
  }

  const file = join(folder, manifest.file);
  const actual = await sha256(file);
  if (actual !== manifest.sha256) {
    throw new ModelError(
      `${file}: sha256 is ${actual}, the manifest says ${manifest.sha256}: copy both files again`,
    );
  }
  return { manifest, file };
}

async function parse(path: string): Promise<Manifest> {
  let data: unknown;
  try {
    data = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new ModelError(`${path}: ${reason(error)}`, { cause: error });
  }
  const ajv = new Ajv({ allErrors: true, strict: false });
  addFormats.default(ajv);
  const validate = ajv.compile<Manifest>(JSON.parse(await readFile(SCHEMA, 'utf8')));
  if (!validate(data)) throw new ModelError(`${path}: ${ajv.errorsText(validate.errors)}`);
  return data;
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(file), hash);
  } catch (error) {
    throw new ModelError(`${file}: ${reason(error)}`, { cause: error });
  }
  return hash.digest('hex');
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
