import { parser } from '@prometheus-io/lezer-promql';

/**
 * The metrics that a PromQL expression reads.
 *
 * @throws {SyntaxError} saying where the expression breaks.
 */
export function metricsOf(expression: string): readonly string[] {
  const names: string[] = [];
  parser.parse(expression).iterate({
    enter({ type, from, to, node }) {
      if (type.isError) throw new SyntaxError(`${expression}\n${' '.repeat(from)}^`);
      // An identifier below a selector is its metric; elsewhere it is a label.
      if (type.name === 'Identifier' && node.parent?.name === 'VectorSelector') {
        names.push(expression.slice(from, to));
      }
    },
  });
  return names;
}
