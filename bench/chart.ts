/** Charts as one SVG: what simulations and docs/ show of runs. */

export interface Series {
  readonly name: string;
  /** Left to right; null: a gap. */
  readonly points: readonly (readonly [x: number, y: number | null])[];
  /** Drawn as steps rather than straight lines. */
  readonly steps?: boolean;
  readonly colour?: string;
}

export interface Panel {
  readonly title: string;
  readonly unit: 'number' | 'share' | 'seconds' | 'bytes';
  readonly series: readonly Series[];
  /** Fixed ends of the vertical axis; else from the data. */
  readonly min?: number;
  readonly max?: number;
  /** On top of each other; `shares`: as parts of their sum. */
  readonly stacked?: 'values' | 'shares';
}

export interface Page {
  readonly title: string;
  readonly columns: number;
  readonly panels: readonly Panel[];
  /** Ends of every horizontal axis, and what to write below it. */
  readonly from: number;
  readonly to: number;
  readonly ticks: readonly (readonly [x: number, label: string])[];
}

const WIDTH = 460;
/** Of a panel without its legend. */
const HEIGHT = 208;
const LEFT = 56;
/** Room for half of the last tick's label. */
const RIGHT = 28;
const TOP = 28;
/** Below the axis: its labels, and a margin. */
const BOTTOM = 28;
/** At least so many, so that the panels of most pages are of one size. */
const LEGEND_ROWS = 3;
const LEGEND_ROW = 14;

/** Told apart in grey, too, as far as a few can be (Okabe and Ito). */
const COLOURS = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#6e5a00',
  '#555',
];

export function renderSvg(page: Page): string {
  const rows = Math.ceil(page.panels.length / page.columns);
  const legends = page.panels.map(({ series }) => Math.ceil(series.length / legendColumns(series)));
  const tall = HEIGHT + LEGEND_ROW * Math.max(LEGEND_ROWS, ...legends);
  const width = page.columns * WIDTH;
  const height = 34 + rows * tall;
  const panels = page.panels.map((panel, i) => {
    const x = (i % page.columns) * WIDTH;
    const y = 34 + Math.floor(i / page.columns) * tall;
    return `<g transform="translate(${x} ${y})">${drawPanel(panel, page)}</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="11" fill="#24292f">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    `<text x="14" y="22" font-size="15" font-weight="600">${escape(page.title)}</text>`,
    ...panels,
    '</svg>\n',
  ].join('\n');
}

/** As many as the longest name leaves room for. */
const legendColumns = (series: readonly Series[]) =>
  series.some(({ name }) => name.length > 18) ? 2 : 3;

function drawPanel(panel: Panel, { from, to, ticks }: Page): string {
  const series = panel.stacked ? stack(panel.series, panel.stacked) : panel.series;
  const values = series.flatMap(({ points }) => points.flatMap(([, y]) => y ?? []));
  const [low, high, step] = axis(
    panel.min ?? (panel.stacked ? 0 : Math.min(...values)),
    panel.max ?? Math.max(...values),
  );
  const right = WIDTH - RIGHT;
  const bottom = HEIGHT - BOTTOM;
  const px = (x: number) => LEFT + ((right - LEFT) * (x - from)) / (to - from);
  const py = (y: number) => bottom - ((bottom - TOP) * (y - low)) / (high - low);
  const parts = [`<text x="14" y="14" font-weight="600">${escape(panel.title)}</text>`];
  for (let y = low; y <= high + step / 2; y += step) {
    const at = py(y).toFixed(1);
    parts.push(
      `<line x1="${LEFT}" x2="${right}" y1="${at}" y2="${at}" stroke="#d0d7de"/>`,
      `<text x="${LEFT - 5}" y="${(py(y) + 4).toFixed(1)}" text-anchor="end">${label(y, panel.unit, step)}</text>`,
    );
  }
  for (const [x, text] of ticks) {
    parts.push(`<text x="${px(x)}" y="${bottom + 15}" text-anchor="middle">${escape(text)}</text>`);
  }
  // The highest of a stack first, so that each area ends at the one below it.
  const order = panel.stacked ? [...series.keys()].toReversed() : [...series.keys()];
  for (const i of order) {
    const { points, steps, colour = COLOURS[i % COLOURS.length]! } = series[i]!;
    const paths = runs(points).map((run) => path(run, steps ?? false, px, py));
    for (const [d, first, last] of paths) {
      parts.push(
        panel.stacked
          ? `<path d="${d}L${last} ${bottom}L${first} ${bottom}Z" fill="${colour}"/>`
          : `<path d="${d}" fill="none" stroke="${colour}" stroke-width="1.6"/>`,
      );
    }
  }
  const columns = legendColumns(panel.series);
  panel.series.forEach(
    (
      {
        name,
        colour = COLOURS[panel.series.findIndex((each) => each.name === name) % COLOURS.length]!,
      },
      i,
    ) => {
      const x = LEFT + (i % columns) * ((right - LEFT) / columns);
      const y = bottom + 33 + Math.floor(i / columns) * LEGEND_ROW;
      parts.push(
        `<rect x="${x}" y="${y - 8}" width="9" height="9" fill="${colour}"/><text x="${x + 13}" y="${y}">${escape(name)}</text>`,
      );
    },
  );
  return parts.join('');
}

/** Each series as its sum with those before it. */
function stack(series: readonly Series[], how: 'values' | 'shares'): Series[] {
  const xs = [...new Set(series.flatMap(({ points }) => points.map(([x]) => x)))].sort(
    (a, b) => a - b,
  );
  const known = series.map(({ points }) => new Map(points));
  const totals = xs.map((x) => known.reduce((sum, of) => sum + (of.get(x) ?? 0), 0));
  const below = xs.map(() => 0);
  return series.map((each, s) => ({
    ...each,
    points: xs.map((x, i) => {
      below[i]! += known[s]!.get(x) ?? 0;
      if (how === 'values') return [x, below[i]!] as const;
      return [x, totals[i] === 0 ? null : below[i]! / totals[i]!] as const;
    }),
  }));
}

/** Stretches without a gap. */
function runs(points: Series['points']): (readonly [number, number])[][] {
  const all: [number, number][][] = [[]];
  for (const [x, y] of points) {
    if (y === null) all.push([]);
    else all.at(-1)!.push([x, y]);
  }
  return all.filter((run) => run.length > 0);
}

function path(
  run: readonly (readonly [number, number])[],
  steps: boolean,
  px: (x: number) => number,
  py: (y: number) => number,
): [d: string, first: string, last: string] {
  const d = run.map(([x, y], i) => {
    const [across, up] = [px(x).toFixed(1), py(y).toFixed(1)];
    if (i === 0) return `M${across} ${up}`;
    return steps ? `H${across}V${up}` : `L${across} ${up}`;
  });
  return [d.join(''), px(run[0]![0]).toFixed(1), px(run.at(-1)![0]).toFixed(1)];
}

/** Ends and step of an axis with about four round steps. */
function axis(lowest: number, highest: number): [low: number, high: number, step: number] {
  const low = Number.isFinite(lowest) ? lowest : 0;
  const high = Number.isFinite(highest) && highest > low ? highest : low + 1;
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((nice) => nice * power >= rough * 0.999)! * power;
  return [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step, step];
}

function label(value: number, unit: Panel['unit'], step: number): string {
  if (unit === 'bytes') return `${+(value / 2 ** 20).toFixed(0)} MiB`;
  if (unit === 'share') return `${+(100 * value).toFixed(step < 0.01 ? 2 : 0)} %`;
  if (unit === 'seconds') return `${+(1000 * value).toPrecision(3)} ms`;
  return String(+value.toPrecision(4));
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
