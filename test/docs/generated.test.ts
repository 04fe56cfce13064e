import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SETTINGS } from '../../src/config.ts';
import { errorTable } from './error-table.ts';
import { modelFolderPage } from './model-folder-page.ts';
import type { Schema } from './model-folder-page.ts';
import { GROUPS, settingsPage } from './settings-page.ts';

// Written by `npm run generate`, which is this file with vitest's --update.

describe('docs/settings.md', () => {
  it('has each setting in one group', () => {
    const grouped = Object.values(GROUPS).flat();
    expect(grouped.toSorted()).toEqual(SETTINGS.map(({ name }) => name).toSorted());
  });

  it('is what src/config.ts says', async () => {
    await expect(settingsPage(SETTINGS)).toMatchFileSnapshot('../../docs/settings.md');
  });

  it('names the model of the package as it is found in the repository', () => {
    expect(settingsPage(SETTINGS)).toContain('| `--model-dir` | `models/grocery` |');
  });
});

it('docs/model-folder.md has every field of the schema', async () => {
  const schema = JSON.parse(readFileSync('models/model.schema.json', 'utf8')) as Schema;
  await expect(modelFolderPage(schema)).toMatchFileSnapshot('../../docs/model-folder.md');
});

it('the table of docs/api.md has the errors of src/errors.ts', async () => {
  const page = 'docs/api.md';
  const [begin, end] = ['<!-- errors: npm run generate -->', '<!-- end of errors -->'];
  const table = `${begin}\n\n${errorTable()}\n\n${end}`;
  const current = readFileSync(page, 'utf8').replace(RegExp(`${begin}[^]*${end}`), () => table);
  expect(current).toContain(table);
  await expect(current).toMatchFileSnapshot(`../../${page}`);
});
