import type { FastifyRequest } from 'fastify';
import { ServeError } from '../errors.ts';

/** Bodies that hold one image; what it is gets decided by its bytes. */
export const IMAGE_TYPES = ['image/jpeg', 'image/png', 'image/webp', 'application/octet-stream'];

/**
 * The image files of a request: the body itself, or the multipart field `image`, repeated for
 * several images.
 *
 * @param maxBytes of all images together.
 * @throws {ServeError} no-image, body-too-large, bad-multipart
 */
export async function readImages(request: FastifyRequest, maxBytes: number): Promise<Buffer[]> {
  const images = request.isMultipart()
    ? await readParts(request, maxBytes).catch(malformed)
    : [request.body];
  const files = images.filter((image) => Buffer.isBuffer(image) && image.length > 0) as Buffer[];
  if (files.length === 0) throw new ServeError('no-image', 'The request holds no image.');
  return files;
}

async function readParts(request: FastifyRequest, maxBytes: number): Promise<Buffer[]> {
  const images: Buffer[] = [];
  let bytes = 0;
  for await (const part of request.files()) {
    const file = await part.toBuffer();
    bytes += file.length;
    if (bytes > maxBytes) {
      throw new ServeError('body-too-large', `The images have more than ${maxBytes} bytes.`);
    }
    if (part.fieldname === 'image') images.push(file);
  }
  return images;
}

/** The parser throws plain errors at bodies that break the format; those with a code are limits. */
function malformed(error: unknown): never {
  if (error instanceof ServeError || (error as { code?: string }).code !== undefined) throw error;
  const { message } = error as Error;
  throw new ServeError('bad-multipart', `${message}.`, {}, undefined, { cause: error });
}
