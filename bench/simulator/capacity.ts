/**
 * The smallest number of replicas whose attainment reaches `wanted`. More replicas are taken to
 * be never worse.
 *
 * @param attainmentOf runs the simulation with so many replicas.
 * @param most gives up beyond this.
 * @returns null when not even `most` reach it: some budgets are too small for any number.
 */
export async function replicasFor(
  wanted: number,
  attainmentOf: (replicas: number) => Promise<number>,
  most = 1024,
): Promise<number | null> {
  let enough = 1;
  while ((await attainmentOf(enough)) < wanted) {
    if (enough >= most) return null;
    enough = Math.min(most, enough * 2);
  }
  let tooFew = enough >> 1;
  while (enough - tooFew > 1) {
    const middle = (tooFew + enough) >> 1;
    if ((await attainmentOf(middle)) >= wanted) enough = middle;
    else tooFew = middle;
  }
  return enough;
}
