import { ServeError } from '../../errors.ts';
import { Type } from '../../json-schema.ts';
import type { Manifest } from '../../model/manifest.ts';

const model = Type.String({ description: 'The name in the manifest' });
const version = Type.String({ description: 'The version in the manifest' });

/** Where the protocol lets clients address the model, and the parameters in each path. */
export const MODEL_PATHS = [
  ['/models/:model', Type.Object({ model })],
  ['/models/:model/versions/:version', Type.Object({ model, version })],
] as const;

export interface ModelParams {
  readonly model: string;
  readonly version?: string;
}

/** @throws {ServeError} no-such-model */
export function assertModel({ model, version }: ModelParams, manifest: Manifest): void {
  if (model === manifest.name && (version === undefined || version === manifest.version)) return;
  const asked = version === undefined ? model : `${model}, version ${version}`;
  throw new ServeError('no-such-model', `There is no model ${asked.slice(0, 100)} here.`);
}
