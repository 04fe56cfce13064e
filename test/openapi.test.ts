import { readFile } from 'node:fs/promises';
import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, test } from 'vitest';
import { runToEnd } from './clients/python.ts';

const printed = JSON.parse(await runToEnd(process.execPath, ['dist/main.js', 'openapi'])) as Record<
  string,
  unknown
> & { paths: Record<string, Record<string, { summary?: string }>> };

test('the OpenAPI document is valid', async () => {
  expect(await new Validator().validate(structuredClone(printed))).toEqual({ valid: true });
});

test('every operation says what it is for', () => {
  for (const [path, operations] of Object.entries(printed.paths)) {
    for (const [method, { summary }] of Object.entries(operations)) {
      expect(summary, `${method} ${path}`).toBeTruthy();
    }
  }
});

test('docs/openapi.json is what the service prints: else run `npm run openapi`', async () => {
  expect(JSON.parse(await readFile('docs/openapi.json', 'utf8'))).toEqual(printed);
});
