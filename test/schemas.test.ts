import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { expect, test } from 'vitest';
import { Settings } from '../src/config.ts';
import { TokensFile } from '../src/http/access.ts';
import { InferRequest } from '../src/http/v2/schemas.ts';

// At run time nobody checks that schemas of ours are schemas: it would take a part of every start.
test.each([
  ['the settings', Settings],
  ['a tokens file', TokensFile],
  ['a request of v2', InferRequest],
  ['a manifest', JSON.parse(readFileSync('models/model.schema.json', 'utf8')) as object],
])('the schema of %s is a schema', (_, schema) => {
  const ajv = new Ajv({ strict: false });
  expect(ajv.validateSchema(schema) || ajv.errorsText()).toBe(true);
});

test('a schema that is none would be told', () => {
  expect(new Ajv().validateSchema({ type: 'number of ms' })).toBe(false);
});
