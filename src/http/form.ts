import type { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import type { Config } from '../config.ts';
import { ServeError } from '../errors.ts';
import { Delimiters, boundaryOf } from './delimiters.ts';

/** Content-Transfer-Encoding: of e-mail, but its libraries write forms, too. Empty: none is named. */
const AS_IT_IS: ReadonlySet<string> = new Set(['', '7bit', '8bit', 'binary']);

/** Fields beside the images that a form may have. */
const MAX_OTHERS = 16;

/** What the errors of @fastify/multipart mean. */
const TOO_MANY: ReadonlySet<string> = new Set([
  'FST_FILES_LIMIT',
  'FST_PARTS_LIMIT',
  'FST_FIELDS_LIMIT',
]);

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
  { MAX_IMAGES_PER_REQUEST: maxImages, MAX_BODY_BYTES: maxBytes }: Config,
): Promise<readonly Buffer[]> {
  const images: Buffer[] = [];
  const others = new Set<string>();
  const encodings = new Set<string>();
  let hasEmpty = false;
  /** Index of the first image that is empty by mistake. */
  let emptyAt: number | undefined;
  const options = {
    limits: {
      files: maxImages + MAX_OTHERS,
      fields: MAX_OTHERS,
      parts: maxImages + MAX_OTHERS,
      fieldSize: 4096,
      headerPairs: 32,
      fileSize: maxBytes,
    },
    // Above these, the parser waits for a reader; waiting, it has been seen to hang for ever on a
    // part whose name has a bare line break. The body limit bounds what is held either way.
    highWaterMark: maxBytes,
    fileHwm: maxBytes,
    // JSON, too: the parser would parse it, and end the form for a mistake in it.
    isPartAFile: (name: string | undefined, type?: string, fileName?: string) =>
      name === 'image' || fileName !== undefined || type?.startsWith('application/json') === true,
  };
  const delimiters = new Delimiters(boundaryOf(request.headers['content-type'])!);
  body.once('error', (error) => delimiters.destroy(error)).pipe(delimiters);
  let parts = 0;
  try {
    for await (const part of partsOf(request, delimiters).parts(options)) {
      // Each must be read to its end, wanted or not: the next one comes after it.
      const file = part.type === 'file' ? part : null;
      const bytes = (await file?.toBuffer()) ?? Buffer.alloc(0);
      // What has no name belongs to no field: told as the parts that the parser passes over.
      if ((part.fieldname as string | undefined) === undefined) continue;
      parts += 1;
      if (part.fieldname !== 'image') others.add(part.fieldname);
      else {
        const isBase64 = part.encoding === 'base64';
        const image = isBase64 ? Buffer.from(bytes.toString('latin1'), 'base64') : bytes;
        if (image.length > 0) images.push(image);
        else {
          hasEmpty = true;
          // Browsers send an empty part with the file name "" where no file was chosen.
          if (file?.filename !== '') emptyAt ??= images.length;
        }
      }
      if (part.encoding !== 'base64' && !AS_IT_IS.has(part.encoding)) encodings.add(part.encoding);
    }
  } catch (error) {
    throw error === body.errored ? error : explain(error, delimiters, maxImages);
  } finally {
    // Whatever the parser has left must not stand in the connection.
    body.unpipe(delimiters).resume();
  }
  if (delimiters.parts > parts) {
    const detail =
      'A part of the form has no Content-Disposition: form-data; name="...", ' +
      'or its lines do not end with CR LF.';
    throw new ServeError('bad-multipart', detail);
  }
  if (encodings.size > 0) {
    const detail = `A part has the Content-Transfer-Encoding ${[...encodings][0]!.slice(0, 40)}.`;
    const advice = 'Send the bytes as they are, or base64.';
    throw new ServeError('bad-multipart', detail, { advice });
  }
  if (images.length > maxImages) {
    const detail = `The form has ${images.length} images, the most in a request is ${maxImages}.`;
    throw new ServeError('too-many-images', detail);
  }
  if (images.length > 0 && emptyAt !== undefined) {
    throw new ServeError('no-image', 'An image of the form is empty.', {
      extra: { image: emptyAt },
    });
  }
  if (images.length > 0) return images;
  if (hasEmpty) throw new ServeError('no-image', 'The "image" of the form is empty.');
  const names = [...others].slice(0, 3).map((name) => JSON.stringify(name.slice(0, 40)));
  throw new ServeError(
    'no-image',
    names.length > 0
      ? `The form has no image in "image"; it has ${names.join(', ')}.`
      : 'The form has no image in "image".',
  );
}

/** The plugin reads `request.raw`; what it shall read is the body as bodies.ts passes it on. */
function partsOf(request: FastifyRequest, body: Readable): FastifyRequest {
  const raw = Object.assign(body, { headers: request.raw.headers });
  return Object.create(request, {
    raw: { value: raw },
    isMultipart: { value: () => true },
  }) as FastifyRequest;
}

function explain(error: unknown, delimiters: Delimiters, maxImages: number): unknown {
  const cause = { cause: error };
  const { code } = error as { code?: string };
  if (code !== undefined && TOO_MANY.has(code)) {
    const detail = `The form has more than ${maxImages} images or ${MAX_OTHERS} other parts.`;
    return new ServeError('too-many-images', detail, cause);
  }
  const detail =
    code === 'FST_PROTO_VIOLATION'
      ? 'The form has a field with a name that is not taken, like constructor or toString.'
      : (delimiters.missing ?? 'The body is no whole form.');
  return new ServeError('bad-multipart', detail, cause);
}
