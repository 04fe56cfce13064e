import { expect, it } from 'vitest';
import { metricsDoc } from '../../monitoring/metrics-doc.ts';
import { Metrics } from '../../src/metrics.ts';
import { calm } from './metrics.ts';

// Written by `npm run generate`, which is this file with vitest's --update.

it('docs/metrics.md is what src/metrics.ts says', async () => {
  const metrics = new Metrics({ name: 'cifar10-small-resnet', version: '1' }, () => calm);
  await expect(await metricsDoc(metrics)).toMatchFileSnapshot('../../docs/metrics.md');
});
