/**
 * A count that several threads keep together: each adds to a place of its own, so that what a
 * thread has counted can be taken back when it is lost.
 */
export class SharedCounter {
  /**
   * @param counts one for each thread; shared memory where there are several.
   * @param mine the place of this one.
   */
  constructor(
    private readonly counts: BigInt64Array = new BigInt64Array(1),
    private readonly mine = 0,
  ) {}

  add(count: number): void {
    Atomics.add(this.counts, this.mine, BigInt(count));
  }

  /** Of all threads. */
  get total(): number {
    let total = 0;
    for (let place = 0; place < this.counts.length; place++) {
      total += Number(Atomics.load(this.counts, place));
    }
    return total;
  }

  /** Takes back what this thread has counted. */
  clear(): void {
    Atomics.store(this.counts, this.mine, 0n);
  }
}
