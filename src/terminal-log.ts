import { prettyFactory } from 'pino-pretty';

/** What the ready line says better, or what is nothing to worry about on a machine without a GPU. */
const LEFT_OUT = [/^Server listening at/, /^warm$/, /^ready$/, /^CUDA did not load/];

interface Line {
  readonly msg?: string;
  readonly status?: number;
  readonly outcome?: string | null;
  readonly subNetwork?: string;
  readonly ms?: number;
}

/**
 * The log for people, one short line each, by pino's own pretty printer.
 *
 * @param colorize for terminals that show colours.
 */
export function terminalFormat(colorize: boolean): (line: string) => string {
  const pretty = prettyFactory({
    colorize,
    singleLine: true,
    translateTime: 'SYS:HH:MM:ss',
    ignore: 'pid,hostname,reqId,status,outcome,subNetwork,ms',
    messageFormat: (log, key) => {
      const { status, outcome, subNetwork, ms } = log as Line;
      const parts = [log[key], status, outcome, subNetwork, ms === undefined ? '' : `${ms} ms`];
      return parts.filter((part) => part !== undefined && part !== null && part !== '').join(' ');
    },
  });
  return (line) => {
    const { msg = '' } = JSON.parse(line) as Line;
    if (LEFT_OUT.some((pattern) => pattern.test(msg))) return '';
    // A line of progress may stand where this one is to be.
    return `\r\u001b[K${pretty(line)}`;
  };
}
