import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { renderSvg } from '../chart.ts';
import type { Series } from '../chart.ts';
import { median } from '../median.ts';
import type { Cell } from './cell.ts';
import type { Results } from './results.ts';

const OWN = 'depthserve';

type Read = (cell: Cell) => number;

/** Writes the plot, and returns the tables. */
export function writeReport(results: Results): string {
  const { cells, conditions, peak } = results;
  if (cells.length === 0) return 'nothing measured\n';
  const loads = [...new Set(cells.map(({ load }) => load))].sort((a, b) => a - b);
  // Ours first, then by name: a server has the same colour in both panels.
  const servers = [...new Set(cells.map(({ server }) => server))].sort((a, b) =>
    a === OWN ? -1 : b === OWN ? 1 : a.localeCompare(b),
  );
  /** null: of none. */
  const of = (server: string, load: number, read: Read): number | null => {
    const mine = cells.filter((cell) => cell.server === server && cell.load === load);
    return mine.length > 0 ? median(mine.map(read)) : null;
  };
  const goodput = (server: string, load: number) => of(server, load, (cell) => cell.goodput) ?? 0;
  const file = `docs/images/${basename(results.file, '.json')}.svg`;
  writeFileSync(file, plot(servers, loads, goodput, peak!, conditions.budgetMs));

  const table = (title: string, read: Read, digits: number) => [
    `${title}:`,
    '',
    `| offered, x our peak | ${loads.join(' | ')} |`,
    `|---|${loads.map(() => '---|').join('')}`,
    ...servers.map((server) => {
      const row = loads.map((load) => of(server, load, read)?.toFixed(digits) ?? '');
      return `| ${server} | ${row.join(' | ')} |`;
    }),
    '',
  ];
  const best = loads.map((load) => {
    const rivals = servers
      .filter((server) => server !== OWN)
      .map((server) => [server, goodput(server, load)] as const);
    return rivals.reduce((a, b) => (b[1] > a[1] ? b : a), ['none', 0] as const);
  });
  return [
    `${conditions.machine}; server on core ${conditions.serverCores}, generator on core ` +
      `${conditions.clientCores}; budget ${conditions.budgetMs} ms; our peak ${peak}/s; medians of ` +
      `${results.rounds} rounds of ${conditions.seconds} s`,
    '',
    ...table('Right answers in time per second', (cell) => cell.goodput, 0),
    '| offered, x our peak | DepthServe | best peer | | ratio |',
    '|---|---|---|---|---|',
    ...loads.map((load, i) => {
      const [rival, theirs] = best[i]!;
      const ratio = (goodput(OWN, load) / theirs).toFixed(2);
      return `| ${load} | ${goodput(OWN, load).toFixed(0)} | ${theirs.toFixed(0)} | ${rival} | ${ratio} |`;
    }),
    '',
    ...table('Median latency of all answers, ms', ({ latencyMs }) => latencyMs[0], 1),
    ...table('Share of the answers in time that are right, %', accuracyOf, 1),
    ...table('Server processor s per s', (c) => c.serverCpuSeconds / conditions.seconds, 2),
    '| server | peak, right in time/s | memory, MiB | s to start |',
    '|---|---|---|---|',
    ...servers.map((server) => {
      const most = Math.max(...loads.map((load) => goodput(server, load)));
      const memory = Math.max(
        ...cells.filter((cell) => cell.server === server).map(({ memoryMiB }) => memoryMiB),
      );
      const start = results.startSeconds[server]?.toFixed(1);
      return `| ${server} | ${most.toFixed(0)} | ${memory.toFixed(0)} | ${start} |`;
    }),
    '',
    ...Object.entries(results.failures).map(([server, why]) => `Not measured: ${server}: ${why}\n`),
  ].join('\n');
}

const accuracyOf: Read = ({ right, wrong }) => (100 * right) / (right + wrong);

function plot(
  servers: readonly string[],
  loads: readonly number[],
  goodput: (server: string, load: number) => number,
  peak: number,
  budgetMs: number,
): string {
  const network = (skip: RegExp) =>
    servers
      .filter((server) => server === OWN || skip.test(server))
      .map((server): Series => ({
        name: server.replace(skip, ''),
        points: loads.map((load) => [Math.log2(load), goodput(server, load)] as const),
      }));
  return renderSvg({
    title: `Right answers within ${budgetMs} ms, per second`,
    columns: 2,
    from: Math.log2(loads[0]!),
    to: Math.log2(loads.at(-1)!),
    ticks: loads.map((load) => [Math.log2(load), `${Math.round(load * peak)}/s`] as const),
    panels: [
      { title: 'Peers with the super-net', unit: 'number', min: 0, series: network(/ F+$/) },
      { title: 'Peers with the base-net', unit: 'number', min: 0, series: network(/ T+$/) },
    ],
  });
}
