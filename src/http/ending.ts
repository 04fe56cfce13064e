/** What is to be done when the connection is through with a request, answered or not. */
export class Ending {
  #acts: (() => void)[] | null = [];

  /** Done at once, if it is over already. */
  push(act: () => void): void {
    if (this.#acts) this.#acts.push(act);
    else act();
  }

  /** It is over. */
  end(): void {
    const acts = this.#acts;
    this.#acts = null;
    for (const act of acts ?? []) act();
  }
}
