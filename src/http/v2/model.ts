import type { Static } from 'typebox';
import { ServeError } from '../../errors.ts';
import { Type } from '../../json-schema.ts';
import type { Manifest } from '../../model/manifest.ts';

/** Where the protocol lets clients address the model. */
export const MODEL_PATHS = ['/models/:model', '/models/:model/versions/:version'] as const;

export const ModelParams = Type.Object({
  model: Type.String({ description: 'The name in the manifest' }),
  version: Type.Optional(Type.String({ description: 'The version in the manifest' })),
});
export type ModelParams = Static<typeof ModelParams>;

/** @throws {ServeError} no-such-model */
export function assertModel({ model, version }: ModelParams, manifest: Manifest): void {
  if (model === manifest.name && (version === undefined || version === manifest.version)) return;
  const asked = version === undefined ? model : `${model}, version ${version}`;
  throw new ServeError('no-such-model', `There is no model ${asked.slice(0, 100)} here.`);
}
