import type { FastifyRequest } from 'fastify';
import { ServeError } from '../errors.ts';

/** Bodies that hold one image; what it is gets decided by its bytes. */
export const IMAGE_TYPES = ['image/jpeg', 'image/png', 'image/webp', 'application/octet-stream'];

/** Bodies that hold several. */
export const FORM_TYPE = 'multipart/form-data';

/** Fields beside the images, which nobody reads, that a form may have. */
const MOST_OTHERS = 16;

/**
 * The image files of a request: the body itself, or the multipart field `image`, repeated for
 * several images.
 *
 * @throws {ServeError} no-image, too-many-images, bad-multipart
 */
export async function readImages(request: FastifyRequest, maxImages: number): Promise<Buffer[]> {
  const body = (request.body as Buffer | undefined) ?? Buffer.alloc(0);
  const type = request.headers['content-type'] ?? '';
  const images = type.toLowerCase().startsWith(FORM_TYPE)
    ? await readForm(body, type, maxImages)
    : [body];
  const files = images.filter((image) => image.length > 0);
  if (files.length === 0) throw new ServeError('no-image', 'The request holds no image.');
  return files;
}

/**
 * Parses the whole body at once, by the platform's own parser: those that parse as bytes arrive
 * have been seen to wait for ever when a part is broken.
 */
async function readForm(body: Buffer, type: string, maxImages: number): Promise<Buffer[]> {
  // Taking apart a million parts would hold everybody else up.
  const most = maxImages + MOST_OTHERS;
  if (boundariesIn(body, type, most + 1) > most + 1) {
    throw new ServeError('too-many-images', `The form has more than ${most} parts.`);
  }
  const headers = { 'content-type': type };
  const form = await new Response(new Uint8Array(body), { headers }).formData().catch((cause) => {
    const detail = 'The body is no whole form.';
    throw new ServeError('bad-multipart', detail, {}, undefined, { cause });
  });
  const files = form.getAll('image').filter((part) => typeof part !== 'string');
  if (files.length > maxImages) {
    const detail = `The form has ${files.length} images, the most in a request is ${maxImages}.`;
    throw new ServeError('too-many-images', detail);
  }
  return Promise.all(files.map(async (file) => Buffer.from(await file.arrayBuffer())));
}

/** How often the boundary occurs, counted to just above `most`. */
function boundariesIn(body: Buffer, type: string, most: number): number {
  const [, quoted, plain] = /boundary=(?:"([^"]*)"|([^;\s]*))/i.exec(type) ?? [];
  const boundary = `--${quoted ?? plain ?? ''}`;
  let count = 0;
  for (let at = body.indexOf(boundary); at >= 0 && count <= most; count++) {
    at = body.indexOf(boundary, at + boundary.length);
  }
  return count;
}
