/** What Triton's extensions let clients ask for and this service does not do: refused by name. */
import { ServeError } from '../../errors.ts';
import type { InferRequest } from './schemas.ts';

/** Parameters of requests, inputs and outputs; false and 0 ask for nothing. */
const PARAMETERS: Readonly<Record<string, string>> = {
  priority: 'Priorities',
  sequence_id: 'Sequences',
  sequence_start: 'Sequences',
  sequence_end: 'Sequences',
  shared_memory_region: 'Shared memory',
  shared_memory_byte_size: 'Shared memory',
  shared_memory_offset: 'Shared memory',
};

const ROUTES: readonly (readonly [path: RegExp, what: string])[] = [
  [/^\/v2\/(system|cuda|xpu)sharedmemory(\/|$)/, 'Shared memory'],
  [/^\/v2\/repository(\/|$)/, 'The model repository extension'],
  [/^\/v2\/(models\/.+\/)?trace\/setting$/, 'The trace extension'],
  [/^\/v2\/logging$/, 'The logging extension'],
  [/^\/v2\/models\/.+\/generate(_stream)?$/, 'The generate extension'],
];

const notOffered = (what: string, where: string) =>
  new ServeError('not-offered', `${what}, which ${where} asks for, is not offered here.`);

/** @throws {ServeError} not-offered */
export function refuseUnoffered({ parameters, inputs, outputs = [] }: InferRequest): void {
  for (const holder of [{ parameters }, ...inputs, ...outputs]) {
    for (const [name, what] of Object.entries(PARAMETERS)) {
      const value = holder.parameters?.[name] ?? 0;
      if (value !== 0 && value !== false) throw notOffered(what, `parameter ${name}`);
    }
  }
}

/**
 * @param path without the query.
 * @throws {ServeError} not-offered
 */
export function refuseUnofferedRoute(path: string): void {
  const found = ROUTES.find(([pattern]) => pattern.test(path));
  if (found) throw notOffered(found[1], path.slice(0, 100));
}
