import { expect, test } from 'vitest';
import type { Manifest } from '../../src/model/manifest.ts';
import { requirementsOf } from '../../src/http/v2/requirements.ts';

const manifest = {
  subNetworks: [
    { skip: 'FF', top1: 0.9 },
    { skip: 'FT', top1: null },
    { skip: 'TT', top1: 0.8 },
  ],
} as unknown as Manifest;
const named = (skip: string) =>
  requirementsOf({}, { inputs: [], parameters: { skip } }, manifest, 100);

// It has no place on the ladder, which the scheduler took for an accuracy floor above all.
test('a sub-network of unknown accuracy cannot be named among others that are known', () => {
  expect(named('TT').skip).toBe('TT');
  expect(() => named('FT')).toThrow('bad-skip: The manifest does not say how accurate FT is');
});
