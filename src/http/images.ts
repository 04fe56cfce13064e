import type { FastifyRequest } from 'fastify';
import { ServeError } from '../errors.ts';

/**
 * Bodies that hold one image, as clients call them; what it is gets decided by its bytes. A body
 * without a type is taken for the last one.
 */
export const IMAGE_TYPES = [
  'image/jpeg',
  'image/png',
  'image/webp',
  'image/jpg',
  'image/pjpeg',
  'image/x-png',
  'binary/octet-stream',
  'application/octet-stream',
];

/** What a body that is called so most likely is. */
export const FORMAT_OF_TYPE: ReadonlyMap<string | undefined, string> = new Map([
  ['image/jpeg', 'jpeg'],
  ['image/jpg', 'jpeg'],
  ['image/png', 'png'],
  ['image/webp', 'webp'],
]);

/** Bodies that hold several. */
export const FORM_TYPE = 'multipart/form-data';

/**
 * The image files of a request: the body itself, or those that its parser found in a form.
 *
 * @throws {ServeError} no-image
 */
export function imagesOf({ body }: FastifyRequest): readonly Buffer[] {
  if (Array.isArray(body)) return body as Buffer[];
  const file = body as Buffer | undefined;
  if (!file?.length) throw new ServeError('no-image', 'The request holds no image.');
  return [file];
}
