import type { Decision, Policy, Tier, View, Waiting } from './policy.ts';

/**
 * Lets requests name their sub-network (`skip`) under any policy: the policy is asked once for
 * each pin, with a view that holds only that sub-network and the requests that want it, and once
 * for all requests without a pin. So a batch never mixes pins, and policies need not know of them.
 *
 * @param pinnable every sub-network that has a latency, on the Pareto front or not.
 */
export function withPins(policy: Policy, pinnable: readonly Tier[]): Policy {
  const isPinned = ({ admitted }: View) => admitted.some(({ skip }) => skip !== undefined);
  const narrowed = (view: View, pin: string | undefined): View => ({
    ...view,
    admitted: view.admitted.filter(({ skip }) => skip === pin),
    queue: view.queue.filter(({ skip }) => skip === pin),
    unsure: pin === undefined ? view.unsure : [],
    tiers: pin === undefined ? view.tiers : pinnable.filter(({ skip }) => skip === pin),
  });
  const unpinned = (view: View) => (isPinned(view) ? narrowed(view, undefined) : view);

  return {
    name: policy.name,
    admit(view, request) {
      // As a rule nobody pins.
      const isPlain = request.skip === undefined && !isPinned(view);
      return policy.admit(isPlain ? view : narrowed(view, request.skip), request);
    },
    decide(view) {
      if (!isPinned(view)) return policy.decide(view);
      const pins = pinsOf(view.queue);
      // Most urgent group first. Deciding changes nothing, so the others may be asked again.
      let all = NOTHING;
      for (const pin of pins) {
        all = joined(all, policy.decide(narrowed(view, pin)));
        if (all.run) break;
      }
      return all;
    },
    ...(policy.secondLooks && {
      secondLooks: {
        leaving: (view) => policy.secondLooks!.leaving(unpinned(view)),
        choose: (view) => policy.secondLooks!.choose(unpinned(view)),
      },
    }),
    ...(policy.hopeless && {
      hopeless(view) {
        if (!isPinned(view)) return policy.hopeless!(view);
        return pinsOf(view.queue)
          .map((pin) => ({ run: null, ...policy.hopeless!(narrowed(view, pin)) }))
          .reduce(joined, NOTHING);
      },
    }),
  };
}

const NOTHING: Decision = { expire: [], run: null, wakeAt: null };

/** The different pins of a queue that is sorted by deadline: the most urgent group's first. */
function pinsOf(queue: readonly Waiting[]): readonly (string | undefined)[] {
  return [...new Set(queue.map(({ skip }) => skip))];
}

function joined(a: Decision, b: Decision): Decision {
  const wakeAt = Math.min(a.wakeAt ?? Infinity, b.wakeAt ?? Infinity);
  return {
    ...a,
    ...b,
    expire: [...a.expire, ...b.expire],
    giveUp: [...(a.giveUp ?? []), ...(b.giveUp ?? [])],
    wakeAt: wakeAt === Infinity ? null : wakeAt,
  };
}
