/**
 * The rule by which Kubernetes' HorizontalPodAutoscaler chooses a number of replicas, as its
 * documentation and controller (pkg/controller/podautoscaler, 1.36) have it. KEDA makes such an
 * autoscaler, with external metrics, of a ScaledObject. Times in seconds.
 */

/** Between two decisions (--horizontal-pod-autoscaler-sync-period). */
export const SYNC_SECONDS = 15;
/** Ratios this close to 1 change nothing (--horizontal-pod-autoscaler-tolerance). */
const TOLERANCE = 0.1;

export interface ScalingRules {
  readonly stabilizationWindowSeconds: number;
  readonly selectPolicy: 'Max' | 'Min' | 'Disabled';
  readonly policies: readonly {
    readonly type: 'Pods' | 'Percent';
    readonly value: number;
    readonly periodSeconds: number;
  }[];
}

/** One metric of a rule. */
export interface Target {
  /**
   * `pods`: mean over the pods; `cpu`: likewise, of processor use by request, which treats pods
   * that have just started in its own way; `value` and `average`: one figure for all, compared as
   * it is, or after division by the number of replicas.
   */
  readonly kind: 'pods' | 'cpu' | 'value' | 'average';
  readonly target: number;
}

/** What an autoscaler may know of one pod. */
export interface PodState {
  /** Not started yet: no container runs. */
  readonly pending: boolean;
  /** For `cpu`: and measured since. */
  readonly ready: boolean;
  /** Null: nothing scraped yet. */
  readonly value: number | null;
}

/** Replicas that one metric asks for, before limits; `value` is the metric of an external one. */
export function replicasWanted(
  { kind, target }: Target,
  current: number,
  pods: readonly PodState[],
  value: number | null,
): number | null {
  if (kind === 'pods' || kind === 'cpu') return fromPods(kind, target, current, pods);
  if (value === null) return null;
  if (kind === 'average') {
    return tolerable(value / (target * current)) ? current : ceil(value / target);
  }
  const ready = pods.filter((pod) => pod.ready).length;
  return tolerable(value / target) ? current : ceil((value / target) * ready);
}

function fromPods(
  kind: 'pods' | 'cpu',
  target: number,
  current: number,
  pods: readonly PodState[],
): number | null {
  const unready: PodState[] = [];
  const missing: PodState[] = [];
  const values: number[] = [];
  for (const pod of pods) {
    if (pod.pending) unready.push(pod);
    else if (pod.value === null) missing.push(pod);
    else if (kind === 'cpu' && !pod.ready) unready.push(pod);
    else values.push(pod.value);
  }
  if (values.length === 0) return null;
  const ratio = mean(values) / target;
  // Pods that do not count yet are taken for idle when the rest asks for more.
  const withUnready = unready.length > 0 && ratio > 1;
  if (!withUnready && missing.length === 0) {
    return tolerable(ratio) ? current : ceil(ratio * values.length);
  }
  // And those that are silent for being on target, when the rest asks for less.
  const assumed = ratio > 1 ? 0 : kind === 'cpu' ? Math.max(target, 1) : target;
  values.push(...missing.map(() => assumed), ...(withUnready ? unready.map(() => 0) : []));
  const corrected = mean(values) / target;
  const turned = (ratio < 1 && corrected > 1) || (ratio > 1 && corrected < 1);
  if (tolerable(corrected) || turned) return current;
  const wanted = ceil(corrected * values.length);
  const contradicts = corrected < 1 ? wanted > current : wanted < current;
  return contradicts ? current : wanted;
}

export interface Limits {
  readonly min: number;
  readonly max: number;
  readonly up: ScalingRules;
  readonly down: ScalingRules;
}

interface Change {
  readonly at: number;
  readonly by: number;
}

/** Holds what the controller remembers between decisions. */
export class Autoscaler {
  #recommended: { readonly at: number; readonly replicas: number }[] = [];
  #added: Change[] = [];
  #removed: Change[] = [];

  constructor(private readonly limits: Limits) {}

  /**
   * @param proposals of the metrics; those without a value are left out, and with none at all
   *   nothing changes.
   * @returns the number of replicas from now on.
   */
  decide(now: number, current: number, proposals: readonly (number | null)[]): number {
    // What there is when it begins is taken for its first recommendation.
    if (this.#recommended.length === 0) this.#recommended.push({ at: now, replicas: current });
    const known = proposals.filter((proposal) => proposal !== null);
    if (known.length === 0) return current;
    const wanted = this.#limited(now, current, this.#stabilized(now, current, Math.max(...known)));
    if (wanted > current) this.#added.push({ at: now, by: wanted - current });
    if (wanted < current) this.#removed.push({ at: now, by: current - wanted });
    return wanted;
  }

  /** Up only as far as asked for all along the window; down likewise. */
  #stabilized(now: number, current: number, wanted: number): number {
    const { up, down } = this.limits;
    const longest = Math.max(up.stabilizationWindowSeconds, down.stabilizationWindowSeconds);
    this.#recommended = this.#recommended.filter(({ at }) => at > now - longest);
    const within = (seconds: number) =>
      this.#recommended.filter(({ at }) => at > now - seconds).map(({ replicas }) => replicas);
    const lowest = Math.min(wanted, ...within(up.stabilizationWindowSeconds));
    const highest = Math.max(wanted, ...within(down.stabilizationWindowSeconds));
    this.#recommended.push({ at: now, replicas: wanted });
    return Math.min(Math.max(current, lowest), highest);
  }

  #limited(now: number, current: number, wanted: number): number {
    const { min, max, up, down } = this.limits;
    if (wanted > current) {
      const most = this.#furthest(now, current, up, 1);
      return Math.min(wanted, max, Math.max(current, most));
    }
    if (wanted < current) {
      const least = this.#furthest(now, current, down, -1);
      return Math.max(wanted, min, Math.min(current, least));
    }
    return Math.min(Math.max(wanted, min), max);
  }

  /** How far the policies let the number go in one direction (1: up, -1: down). */
  #furthest(now: number, current: number, rules: ScalingRules, direction: 1 | -1): number {
    if (rules.selectPolicy === 'Disabled') return current;
    const reach = rules.policies.map(({ type, value, periodSeconds }) => {
      const since = now - periodSeconds;
      const atStart = current - changed(this.#added, since) + changed(this.#removed, since);
      if (type === 'Pods') return atStart + direction * value;
      const exact = atStart * (1 + (direction * value) / 100);
      return direction > 0 ? ceil(exact) : Math.trunc(exact);
    });
    const widest = (rules.selectPolicy === 'Max') === direction > 0;
    return widest ? Math.max(...reach) : Math.min(...reach);
  }
}

function changed(changes: readonly Change[], since: number): number {
  return changes.reduce((sum, { at, by }) => (at > since ? sum + by : sum), 0);
}

function tolerable(ratio: number): boolean {
  return Math.abs(ratio - 1) <= TOLERANCE;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Rounds up, but not for what is a rounding error above a whole number. */
function ceil(value: number): number {
  return Math.ceil(value - 1e-9);
}
