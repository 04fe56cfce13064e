import { ServeError } from '../../errors.ts';
import { calibrated } from '../../model/logits.ts';
import type { Manifest } from '../../model/manifest.ts';
import type { Classified } from '../../telemetry/recorder.ts';
import { topK } from '../answer.ts';
import type { InferOutput, InferRequest } from './schemas.ts';
import { shown } from './requirements.ts';

type Result = Pick<Classified, 'output' | 'tier'>;
type Values = (result: Result, manifest: Manifest) => Float32Array;

const probabilities: Values = ({ output, tier }, manifest) =>
  calibrated(manifest, tier.skip, output);

/** The outputs of the model, by name. */
export const OUTPUTS: Readonly<Record<string, Values>> = {
  logits: ({ output }) => output,
  probabilities,
};

interface Wanted {
  readonly name: string;
  readonly binary: boolean;
  /** Number of classes as "value:index:label"; 0: the values themselves. */
  readonly classification: number;
}

/**
 * @param inBinary all outputs are wanted in binary, whatever the request says.
 * @returns what the request wants of each output.
 * @throws {ServeError} bad-tensor
 */
export function wantedOutputs(
  { outputs, parameters }: InferRequest,
  classes: number,
  inBinary: boolean,
): Wanted[] {
  const allBinary = flag(parameters, 'binary_data_output') ?? false;
  const asked: NonNullable<InferRequest['outputs']> = outputs?.length
    ? outputs
    : Object.keys(OUTPUTS).map((name) => ({ name }));
  return asked.map(({ name, parameters: own }) => {
    if (!Object.hasOwn(OUTPUTS, name)) {
      throw new ServeError('bad-tensor', `There is no output "${name.slice(0, 60)}".`);
    }
    const classification = own?.['classification'] ?? 0;
    if (!Number.isInteger(classification) || (classification as number) < 0) {
      const detail = `Parameter classification is ${shown(classification)}, no number of classes.`;
      throw new ServeError('bad-tensor', detail);
    }
    return {
      name,
      binary: inBinary || (flag(own, 'binary_data') ?? allBinary),
      classification: Math.min(classification as number, classes),
    };
  });
}

/** @throws {ServeError} bad-tensor */
function flag(parameters: InferRequest['parameters'], name: string): boolean | undefined {
  const value = parameters?.[name];
  if (value === undefined || typeof value === 'boolean') return value;
  throw new ServeError('bad-tensor', `Parameter ${name} is ${shown(value)}, not true or false.`);
}

/**
 * @param results of each image.
 * @returns tensors in the order asked for; the bytes of binary ones follow the JSON in that order.
 */
export function outputsOf(
  wanted: readonly Wanted[],
  results: readonly Result[],
  manifest: Manifest,
) {
  const binary: Buffer[] = [];
  const tensors = wanted.map((want): InferOutput => {
    const { datatype, values, width } = tensorOf(want, results, manifest);
    const head = { name: want.name, shape: [results.length, width], datatype };
    if (!want.binary) return { ...head, data: values };
    const bytes =
      datatype === 'BYTES'
        ? lengthPrefixed((values as string[]).map((value) => Buffer.from(value)))
        : floats(values);
    binary.push(bytes);
    return { ...head, parameters: { binary_data_size: bytes.length } };
  });
  return { tensors, binary };
}

function tensorOf(want: Wanted, results: readonly Result[], manifest: Manifest) {
  const rows = results.map((result) => OUTPUTS[want.name]!(result, manifest));
  if (want.classification === 0) {
    const width = rows[0]!.length;
    return { datatype: 'FP32', values: rows.flatMap((row) => Array.from(row)), width };
  }
  const values = rows.flatMap((row, image) =>
    topK(probabilities(results[image]!, manifest), manifest.labels, want.classification).map(
      ({ index, label }) => `${row[index]!.toFixed(6)}:${index}:${label}`,
    ),
  );
  return { datatype: 'BYTES', values, width: want.classification };
}

function floats(values: readonly (number | string)[]): Buffer {
  return Buffer.from(Float32Array.from(values as number[]).buffer);
}

/** A BYTES tensor: each element after its length (4 bytes, little-endian). */
export function lengthPrefixed(elements: readonly Buffer[]): Buffer {
  return Buffer.concat(
    elements.flatMap((element) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(element.length);
      return [length, element];
    }),
  );
}
