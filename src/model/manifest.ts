import { createHash } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import addFormats from 'ajv-formats';
import { fileProblem } from '../errors.ts';
import { newAjv, parseJson } from '../json.ts';
import type { SecondLook } from '../scheduler/policy.ts';

/** One of the 2^k sub-networks of the file. */
export interface SubNetwork {
  /** Skip flags, first stage first: `FFFF` is the super-net, `TTTT` the base-net. */
  readonly skip: string;
  /** Top-1 accuracy, 0 to 1; null when nobody measured it. */
  readonly top1: number | null;
  /** Multiply-accumulates per image. */
  readonly macs: number;
}

/** Measured on held-out training images by `adaptive-depth export` or `calibrate`. */
export interface Confidence {
  /** By skip flags: logits are divided by it before the softmax. */
  readonly temperatures: Readonly<Record<string, number>>;
  /** What a deeper sub-network gains after another one has looked, by how sure that was. */
  readonly secondLooks: readonly {
    readonly first: string;
    readonly second: string;
    readonly bins: SecondLook['bins'];
  }[];
}

/**
 * As much as the server reads of `model.json`, written by `adaptive-depth export`; all of it is in
 * models/model.schema.json.
 */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  /** The ONNX file, beside the manifest. */
  readonly file: string;
  readonly sha256: string;
  readonly input: {
    readonly name: string;
    /** px */
    readonly height: number;
    /** px */
    readonly width: number;
    readonly resize: 'cover' | 'stretch';
    /** Share of the scaled photo's width and height that is kept; absent: 1. */
    readonly centre?: number;
    /** Absent: bilinear. */
    readonly interpolation?: 'bilinear' | 'bicubic';
  };
  /** Names of the graph's scalar bool inputs, first stage first. */
  readonly flags: readonly string[];
  readonly labels: readonly string[];
  readonly subNetworks: readonly SubNetwork[];
  /** How sure answers may be taken to be; absent: the softmax is taken at its word. */
  readonly confidence?: Confidence;
}

/**
 * A checked model whose ONNX file is held open: it can be loaded again, for a worker that is
 * replaced, even when the folder has another of the same name by then.
 */
export interface Model {
  readonly manifest: Manifest;
  /** The ONNX file, as the folder names it. */
  readonly file: string;
  /** Where to load it from. */
  readonly source: string;
  /** Lets go of the file. */
  close(): Promise<void>;
}

/** The model folder cannot be served; the message says what is wrong with which file. */
export class ModelError extends Error {
  override readonly name = 'ModelError';
}

/** At a time, of the model's file. */
const READ_BYTES = 1024 * 1024;

const SCHEMA = new URL('../../models/model.schema.json', import.meta.url);

/**
 * Reads and checks a model folder: the manifest against its schema, the flags against the
 * sub-networks, the ONNX file against its sha256.
 *
 * @throws {ModelError}
 */
export async function openModel(folder: string): Promise<Model> {
  const manifest = await readManifest(folder);
  const file = join(folder, manifest.file);
  const handle = await explained(file, open(file));
  try {
    const actual = await explained(file, sha256(handle));
    if (actual !== manifest.sha256) {
      throw new ModelError(
        `${file}: sha256 is ${actual}, the manifest says ${manifest.sha256}: copy both files again`,
      );
    }
  } catch (error) {
    await handle.close();
    throw error;
  }
  // The file itself, whatever its name stands for by now; elsewhere there is no such path.
  const source = process.platform === 'linux' ? `/proc/self/fd/${handle.fd}` : file;
  return { manifest, file, source, close: () => handle.close() };
}

async function readManifest(folder: string): Promise<Manifest> {
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
  return manifest;
}

async function parse(path: string): Promise<Manifest> {
  let data: unknown;
  try {
    data = parseJson(await readFile(path, 'utf8'));
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const advice = isMissing ? '; MODEL_DIR (--model-dir) names the folder of a model' : '';
    throw new ModelError(`${path}: ${fileProblem(error)}${advice}`, { cause: error });
  }
  const ajv = newAjv({ allErrors: true });
  addFormats.default(ajv);
  const validate = ajv.compile<Manifest>(JSON.parse(await readFile(SCHEMA, 'utf8')));
  if (!validate(data)) throw new ModelError(`${path}: ${ajv.errorsText(validate.errors)}`);
  return data;
}

async function sha256(handle: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  const options = { autoClose: false, start: 0, highWaterMark: READ_BYTES };
  await pipeline(handle.createReadStream(options), hash);
  return hash.digest('hex');
}

/** Failures of the file system, with the file that they are about. */
async function explained<Result>(file: string, result: Promise<Result>): Promise<Result> {
  try {
    return await result;
  } catch (error) {
    throw new ModelError(`${file}: ${fileProblem(error)}`, { cause: error });
  }
}
