import type { Arriving, GivenUp, Refusal, View } from '../policy.ts';
import { atMostMs, busyMs, floorOf } from './costs.ts';
import { firstFeasible, planOf, startOf } from './plan.ts';

/**
 * A newcomer may cost another its place that has at most this share of its time left. For one with
 * as much time, nothing would be gained; reading and decoding its image was work, too.
 */
const YIELDS = 2 / 3;

/**
 * Deadlines are admitted from some time on: those that the plan for all that wait has room
 * for, on the cheapest tier, without anybody losing a place, or only one with much less time. And
 * to those that there is time for once the input is ready: others have their turn meanwhile.
 */
export function admit(view: View, request: Arriving): Refusal | null {
  const floor = floorOf(view, request);
  if (floor === view.tiers.length) {
    return { reason: 'accuracy-unavailable', smallestBudgetMs: Infinity };
  }
  const { arrivedAt, deadline, readyAt = view.now, readyAtMost = readyAt } = request;
  const alone = busyMs(view, floor, 1);
  const open = openFrom(view, startOf(view), floor);
  if (deadline >= Math.max(open, readyAt + alone)) return null;
  const enough = Math.max(open, readyAtMost + alone) + marginMs(view, floor);
  // Were the server idle, a budget may still be too small: patience does not help.
  const reason = readyAt + alone > deadline ? 'budget-too-small' : 'overload';
  return { reason, smallestBudgetMs: enough - arrivedAt };
}

/**
 * Who waits in vain if engines start at `start`: what even the cheapest sub-networks could not
 * answer with the others. To be told at once, while another replica may still be tried.
 */
export function givenUp(view: View, start: number): GivenUp[] {
  /** By floor. */
  const open: number[] = [];
  const lost = firstFeasible(planOf(view), 0, start);
  return view.admitted.slice(0, lost).map((request): GivenUp => {
    const floor = floorOf(view, request);
    // Where floors differ there may be room for a deadline like its own, now that it is given up.
    const from = Math.max(request.deadline, (open[floor] ??= openFrom(view, start, floor)));
    const smallestBudgetMs = from - request.arrivedAt + marginMs(view, floor);
    return { request, refusal: { reason: 'overload', smallestBudgetMs } };
  });
}

/**
 * What is admitted is mostly in time; what a caller is told to send should nearly always be, so it
 * holds the scatter of an image's time, too.
 */
const marginMs = (view: View, floor: number) => atMostMs(view, floor, 1) - busyMs(view, floor, 1);

/** The earliest deadline that one more request may have that needs the tier `floor`. */
function openFrom(view: View, start: number, floor: number): number {
  // Who cannot be answered any more is no reason to refuse others.
  const lost = firstFeasible(planOf(view), 0, start);
  const open = roomFrom(view, lost, start, floor);
  if (lost === view.admitted.length) return open;
  // When not all can be answered, the earliest are best given up: later ones leave more room.
  const yields = view.now + (view.admitted[lost]!.deadline - view.now) / YIELDS;
  return Math.min(open, Math.max(yields, roomFrom(view, lost + 1, start, floor)));
}

/** When one more could be answered, at the earliest, with all from position `from` on in time. */
function roomFrom(view: View, from: number, start: number, floor: number): number {
  const { largest, latest, size, tier } = planOf(view);
  const engines = view.enginesFreeAt.length;
  const alone = busyMs(view, floor, 1);
  let at = start;
  for (let i = from; i < view.admitted.length; i += size[i]!) {
    const batch = size[i]!;
    // In a batch of its own before this one, or as one more in it.
    if (at + alone / engines <= latest[i]!) break;
    if (batch < largest) {
      const ms = busyMs(view, Math.max(tier[i]!, floor), batch + 1);
      const inTime = at + ms <= view.admitted[i]!.deadline;
      if (inTime && at + ms / engines <= latest[i + batch]!) return at + ms;
    }
    at += busyMs(view, tier[i]!, batch) / engines;
  }
  return at + alone;
}
