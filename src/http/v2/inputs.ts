import { ServeError } from '../../errors.ts';
import type { Manifest } from '../../model/manifest.ts';
import type { Message } from './message.ts';
import { lengthPrefixed } from './outputs.ts';
import type { InferInput } from './schemas.ts';
import { shown } from './requirements.ts';

/** The images of a request: pixels of the network's size, or files that need decoding. */
export type Images =
  | { readonly kind: 'pixels'; readonly images: readonly Uint8Array[] }
  | { readonly kind: 'files'; readonly images: readonly Buffer[] };

type Pixels = Pick<Manifest['input'], 'name' | 'height' | 'width'>;
type InputRules = Pixels & { readonly maxImages: number };

/**
 * Reads the one input tensor. Everything about it is checked: neither the engine nor the decoder
 * sees a tensor whose bytes don't fit its shape.
 *
 * @throws {ServeError} bad-tensor, too-many-images
 */
export function readImages({ json, binary }: Message, rules: InputRules): Images {
  const input = json.inputs[0]!;
  if (input.name !== rules.name) throw wrong(`there is no input "${input.name.slice(0, 60)}"`);
  if (input.datatype === 'UINT8') {
    return { kind: 'pixels', images: readPixels(input, tensorBytes(input, binary), rules) };
  }
  if (input.datatype === 'BYTES') {
    return { kind: 'files', images: readFiles(input, tensorBytes(input, binary), rules) };
  }
  throw wrong(`the datatype is ${input.datatype.slice(0, 20)}, not UINT8 or BYTES`);
}

function wrong(what: string): ServeError {
  return new ServeError('bad-tensor', `In the input, ${what}.`);
}

/** The binary part, which must be exactly the input's; null when the data is in the JSON. */
function tensorBytes(input: InferInput, binary: Buffer): Buffer | null {
  const size = input.parameters?.['binary_data_size'];
  if (size === undefined) {
    if (binary.length > 0) throw wrong(`${binary.length} binary bytes belong to no tensor`);
    if (!input.data) throw wrong('there is neither data nor binary_data_size');
    return null;
  }
  if (input.data) throw wrong('there is both data and binary_data_size');
  if (typeof size !== 'number' || !Number.isInteger(size))
    throw wrong(`binary_data_size is ${shown(size)}, no whole number`);
  if (size !== binary.length) {
    throw wrong(`binary_data_size is ${size}, but ${binary.length} bytes follow the JSON`);
  }
  return binary;
}

function countOf(shape: readonly number[], rest: readonly number[], rules: InputRules): number {
  const wanted = `[${['N', ...rest].join(', ')}]`;
  const [count = 0, ...others] = shape;
  if (others.length !== rest.length || others.some((length, axis) => length !== rest[axis])) {
    throw wrong(`the shape is [${shape.join(', ')}], not ${wanted}`);
  }
  if (count < 1) throw wrong(`the shape is [${shape.join(', ')}], which holds no image`);
  if (count > rules.maxImages) {
    const detail = `The tensor holds ${count} images, the most in a request is ${rules.maxImages}.`;
    throw new ServeError('too-many-images', detail);
  }
  return count;
}

function readPixels(
  input: InferInput,
  bytes: Buffer | null,
  rules: InputRules,
): readonly Uint8Array[] {
  const imageShape = [rules.height, rules.width, 3];
  const count = countOf(input.shape, imageShape, rules);
  const imageBytes = rules.height * rules.width * 3;
  const pixels = bytes ?? pixelsOfJson(input.data!, count * imageBytes);
  if (pixels.length !== count * imageBytes) {
    throw wrong(`there are ${pixels.length} values, the shape has ${count * imageBytes}`);
  }
  return Array.from({ length: count }, (_, index) =>
    pixels.subarray(index * imageBytes, (index + 1) * imageBytes),
  );
}

/** Nested or flat arrays of integers, in row-major order. */
function pixelsOfJson(data: readonly unknown[], length: number): Uint8Array {
  const pixels = new Uint8Array(length);
  let filled = 0;
  const fill = (values: readonly unknown[], depth: number): void => {
    for (const value of values) {
      if (Array.isArray(value)) {
        if (depth === 4) throw wrong('the data is nested deeper than its shape');
        fill(value, depth + 1);
        continue;
      }
      if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > 255) {
        throw wrong('there is a value that is no integer from 0 to 255');
      }
      if (filled === length) throw wrong(`there are more than the ${length} values of the shape`);
      pixels[filled++] = value as number;
    }
  };
  fill(data, 1);
  if (filled !== length) throw wrong(`there are ${filled} values, the shape has ${length}`);
  return pixels;
}

/** Encoded images; the shape may be [N] or [N, 1]. */
function readFiles(input: InferInput, bytes: Buffer | null, rules: InputRules): readonly Buffer[] {
  const count = countOf(input.shape, input.shape.length === 2 ? [1] : [], rules);
  const files = bytes ? splitBytes(bytes, count) : filesOfJson(input.data!, count);
  if (files.length < count) {
    throw wrong(`there are ${files.length} elements, the shape has ${count}`);
  }
  return files;
}

const tooMany = (count: number) => wrong(`there are more than the ${count} elements of the shape`);

/**
 * Elements of a BYTES tensor, each after its length (4 bytes, little-endian).
 *
 * @param count most of them: a body of zeros would be millions of empty ones.
 */
function splitBytes(bytes: Buffer, count: number): readonly Buffer[] {
  const files: Buffer[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (files.length === count) throw tooMany(count);
    const start = at + 4;
    const end = start <= bytes.length ? start + bytes.readUInt32LE(at) : Infinity;
    if (end > bytes.length) throw wrong('an element is longer than the tensor');
    files.push(bytes.subarray(start, end));
    at = end;
  }
  return files;
}

function filesOfJson(data: readonly unknown[], count: number): readonly Buffer[] {
  const values = data.flat();
  if (values.length > count) throw tooMany(count);
  return values.map((value) => {
    if (typeof value !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) {
      throw wrong('there is an element that is no base64 string');
    }
    return Buffer.from(value, 'base64');
  });
}

/** How JPEG, PNG and WebP files begin. */
const SIGNATURES = [/^\xff\xd8\xff/, /^\x89PNG/, /^RIFF[^]{4}WEBP/];

/**
 * The message of a body without JSON (Triton's raw binary request), which is the input itself: an
 * encoded image, or pixels of as many images as their number says.
 *
 * @throws {ServeError} not-an-image
 */
export function rawMessage(body: Buffer, { name, height, width }: Pixels) {
  const start = body.toString('latin1', 0, 12);
  const isFile = SIGNATURES.some((signature) => signature.test(start));
  const imageBytes = height * width * 3;
  const count = body.length / imageBytes;
  if (!isFile) {
    if (count < 1 || !Number.isInteger(count)) {
      const detail = `The body, ${body.length} bytes, is neither a file nor pixels.`;
      const advice = `Send a JPEG, PNG or WebP file, or N x ${imageBytes} bytes of RGB pixels.`;
      throw new ServeError('not-an-image', detail, { advice });
    }
    const parameters = { binary_data_size: body.length };
    const input = { name, shape: [count, height, width, 3], datatype: 'UINT8', parameters };
    return { json: { inputs: [input] }, binary: body };
  }
  // The whole body is the tensor's one element; only its length is missing.
  const binary = lengthPrefixed([body]);
  const parameters = { binary_data_size: binary.length };
  const input = { name, shape: [1], datatype: 'BYTES', parameters };
  return { json: { inputs: [input] }, binary };
}
