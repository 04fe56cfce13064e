import { UsageError } from '../../src/cli/command.ts';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { edf } from './rivals/edf.ts';
import type { Policy, Tier } from '../../src/scheduler/policy.ts';
import { bentoml } from './rivals/bentoml.ts';
import { cascade, gears } from './rivals/cascades.ts';
import { fixed } from './rivals/fixed.ts';
import { infaas } from './rivals/infaas.ts';
import { maxAcc } from './rivals/maxacc.ts';
import { maxBatch } from './rivals/maxbatch.ts';
import { slackfit } from './rivals/slackfit.ts';

/** Our policy first, then every rival; one fixed policy for each tier. */
export function policiesFor(tiers: readonly Tier[]): Policy[] {
  return [
    depthserve,
    slackfit,
    maxBatch,
    maxAcc,
    infaas,
    bentoml,
    edf,
    cascade,
    gears,
    ...tiers.map(({ skip }) => fixed(skip)),
  ];
}

/** @throws {UsageError} listing the names there are. */
export function policyNamed(name: string, tiers: readonly Tier[]): Policy {
  const all = policiesFor(tiers);
  const found = all.find((policy) => policy.name === name);
  if (found) return found;
  throw new UsageError(`no policy ${name}; there are ${all.map((each) => each.name).join(', ')}`);
}
