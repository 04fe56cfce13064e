import { Ajv } from 'ajv';
import type { Options } from 'ajv';

/** JSON as files and bodies have it: some editors and frameworks begin UTF-8 with a byte order mark. */
export const parseJson = (text: string): unknown => JSON.parse(text.replace(/^\uFEFF/, ''));

/**
 * For schemas of ours. Tests check that they are schemas (test/schemas.test.ts, of routes those of
 * docs/openapi.json): Ajv would compile the schema of schemas for it, at every start.
 */
export const OWN_SCHEMAS = { meta: false, validateSchema: false } as const;

/** What checks JSON against a schema of ours. */
export const newAjv = (options?: Options): Ajv =>
  new Ajv({ strict: false, ...OWN_SCHEMAS, ...options });
