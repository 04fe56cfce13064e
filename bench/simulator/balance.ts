import type { Random } from './random.ts';

/** How a load balancer in front of several replicas picks one. */
export const BALANCINGS = ['round-robin', 'least-loaded', 'power-of-two'] as const;
export type Balancing = (typeof BALANCINGS)[number];

/** What a balancer may know of a replica. */
export interface Load {
  readonly queueLength: number;
  readonly running: number;
}

/** Returns a function from replicas to the index of the one that gets the next request. */
export function balance(
  balancing: Balancing,
  random: Random,
): (replicas: readonly Load[]) => number {
  const load = (replica: Load) => replica.queueLength + replica.running;
  let next = 0;
  switch (balancing) {
    case 'round-robin':
      return (replicas) => next++ % replicas.length;
    case 'least-loaded':
      return (replicas) => {
        // Ties in turn, or an idle fleet would send everything to its first replica.
        const first = next++;
        let best = first % replicas.length;
        for (let i = 1; i < replicas.length; i++) {
          const candidate = (first + i) % replicas.length;
          if (load(replicas[candidate]!) < load(replicas[best]!)) best = candidate;
        }
        return best;
      };
    case 'power-of-two':
      return (replicas) => {
        const one = Math.floor(random.uniform() * replicas.length);
        const two = Math.floor(random.uniform() * replicas.length);
        return load(replicas[two]!) < load(replicas[one]!) ? two : one;
      };
  }
}
