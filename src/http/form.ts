import type { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import { ServeError } from '../errors.ts';
import { Delimiters, boundaryOf } from './delimiters.ts';

/** Fields beside the images that a form may have. */
const MOST_OTHERS = 16;

/** What the errors of @fastify/multipart mean. */
const TOO_MANY: ReadonlySet<string> = new Set([
  'FST_FILES_LIMIT',
  'FST_PARTS_LIMIT',
  'FST_FIELDS_LIMIT',
]);

export interface FormLimits {
  /** In one form. */
  readonly maxImages: number;
  /** Of the whole body. */
  readonly maxBytes: number;
}

/**
 * The images of a multipart form, in their order: every part named `image` that holds bytes, with a
 * file name or without one.
 *
 * @param body unpacked, and counted against the limits of bytes.
 * @throws {ServeError} no-image, too-many-images, bad-multipart, or what `body` fails with
 */
export async function readForm(
  request: FastifyRequest,
  body: Readable,
  { maxImages, maxBytes }: FormLimits,
): Promise<readonly Buffer[]> {
  const images: Buffer[] = [];
  const others = new Set<string>();
  const options = {
    limits: {
      files: maxImages + MOST_OTHERS,
      fields: MOST_OTHERS,
      parts: maxImages + MOST_OTHERS,
      fieldSize: 4096,
      headerPairs: 32,
      fileSize: maxBytes,
    },
    // Above these, the parser waits for a reader; waiting, it has been seen to hang for ever on a
    // part whose name has a bare line break. The body limit bounds what is held either way.
    highWaterMark: maxBytes,
    fileHwm: maxBytes,
    isPartAFile: (name: string | undefined, _type?: string, fileName?: string) =>
      name === 'image' || fileName !== undefined,
  };
  const boundary = boundaryOf(request.headers['content-type']);
  const delimiters = boundary === null ? null : new Delimiters(boundary);
  if (delimiters) body.once('error', (error) => delimiters.destroy(error)).pipe(delimiters);
  let parts = 0;
  try {
    for await (const part of partsOf(request, delimiters ?? body).parts(options)) {
      parts += 1;
      // Each must be read to its end, wanted or not: the next one comes after it.
      const bytes = part.type === 'file' ? await part.toBuffer() : null;
      if (part.fieldname !== 'image') others.add(part.fieldname);
      else if (bytes && bytes.length > 0) images.push(bytes);
    }
  } catch (error) {
    throw explain(error, maxImages);
  } finally {
    // Whatever the parser has left must not stand in the connection.
    if (delimiters) body.unpipe(delimiters).resume();
  }
  if (delimiters && delimiters.parts > parts) {
    const detail = 'A part of the form has no Content-Disposition: form-data; name="...".';
    throw new ServeError('bad-multipart', detail);
  }
  if (images.length > maxImages) {
    const detail = `The form has ${images.length} images, the most in a request is ${maxImages}.`;
    throw new ServeError('too-many-images', detail);
  }
  if (images.length > 0) return images;
  const names = [...others].slice(0, 3).map((name) => JSON.stringify(name.slice(0, 40)));
  throw new ServeError(
    'no-image',
    names.length > 0
      ? `The form has no image in "image"; it has ${names.join(', ')}.`
      : 'The form has no image in "image".',
  );
}

/** The plugin reads `request.raw`; what it shall read is the body as the intake passes it on. */
function partsOf(request: FastifyRequest, body: Readable): FastifyRequest {
  const raw = Object.assign(body, { headers: request.raw.headers });
  return Object.create(request, {
    raw: { value: raw },
    isMultipart: { value: () => true },
  }) as FastifyRequest;
}

function explain(error: unknown, maxImages: number): unknown {
  if (error instanceof ServeError) return error;
  const cause = { cause: error };
  const { code } = error as { code?: string };
  if (code !== undefined && TOO_MANY.has(code)) {
    const detail = `The form has more than ${maxImages} images and ${MOST_OTHERS} other parts.`;
    return new ServeError('too-many-images', detail, {}, undefined, cause);
  }
  return new ServeError('bad-multipart', 'The body is no whole form.', {}, undefined, cause);
}
