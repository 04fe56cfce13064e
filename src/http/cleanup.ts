/** What is to be done when the connection is through with a request, answered or not. */
export class Cleanup {
  #acts: (() => void)[] | null = [];

  /** Done at once, if it is over already. */
  push(act: () => void): void {
    if (this.#acts) this.#acts.push(act);
    else act();
  }

  /** It is over. @throws what the first act threw that failed: all the others are done. */
  run(): void {
    const acts = this.#acts ?? [];
    this.#acts = null;
    const failures: unknown[] = [];
    for (const act of acts) {
      try {
        act();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
