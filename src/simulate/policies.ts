import { UsageError } from '../cli/command.ts';
import { depthserve } from '../scheduler/depthserve/policy.ts';
import { edf } from '../scheduler/edf.ts';
import type { Policy, Tier } from '../scheduler/policy.ts';
import { bentoml } from '../scheduler/rivals/bentoml.ts';
import { fixed } from '../scheduler/rivals/fixed.ts';
import { infaas } from '../scheduler/rivals/infaas.ts';
import { maxAcc } from '../scheduler/rivals/maxacc.ts';
import { maxBatch } from '../scheduler/rivals/maxbatch.ts';
import { slackfit } from '../scheduler/rivals/slackfit.ts';

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
