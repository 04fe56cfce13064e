import { StackingConfigBuilder, StackingMode } from '@grafana/grafana-foundation-sdk/common';
import {
  DashboardBuilder,
  DashboardCursorSync,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  VariableRefresh,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

const SOURCE = { type: 'prometheus', uid: '${datasource}' };

/** What the variables at the top of a dashboard select; goes into every selector. */
const SELECTED = 'namespace=~"$namespace",pod=~"$pod",model=~"$model"';

/** A series of this service, as the variables select it. */
export const series = (name: string, labels = ''): string =>
  `${name}{${SELECTED}${labels && `,${labels}`}}`;

/** Its increase per second over a window that suits the zoom. */
export const rate = (name: string, labels = ''): string =>
  `rate(${series(name, labels)}[$__rate_interval])`;

/** A quantile of a histogram; `by` are labels that stay apart. */
export const quantile = (share: number, histogram: string, labels = '', by = ''): string =>
  `histogram_quantile(${share}, sum by (le${by && `, ${by}`}) (${rate(`${histogram}_bucket`, labels)}))`;

type Target = readonly [expr: string, legend: string];

interface Look {
  readonly title: string;
  /** What it shows, for a first-time reader. */
  readonly description: string;
  readonly unit?: string;
  readonly min?: number;
  readonly max?: number;
  readonly stacked?: 'values' | 'shares';
  /** Of the 24 columns. */
  readonly width?: number;
}

const queries = (targets: readonly Target[]) =>
  targets.map(([expr, legend], index) =>
    new DataqueryBuilder()
      .refId(String.fromCodePoint('A'.codePointAt(0)! + index))
      .expr(expr)
      .legendFormat(legend),
  );

export function graph(look: Look, ...targets: Target[]): TimeseriesBuilder {
  const panel = new TimeseriesBuilder()
    .title(look.title)
    .description(look.description)
    .datasource(SOURCE)
    .unit(look.unit ?? 'short')
    .span(look.width ?? 8)
    .height(8)
    .targets(queries(targets));
  if (look.min !== undefined) panel.min(look.min);
  if (look.max !== undefined) panel.max(look.max);
  if (look.stacked) {
    const mode = look.stacked === 'shares' ? StackingMode.Percent : StackingMode.Normal;
    panel.stacking(new StackingConfigBuilder().mode(mode)).fillOpacity(60);
  }
  return panel;
}

export function figure(look: Look, ...targets: Target[]): StatBuilder {
  return new StatBuilder()
    .title(look.title)
    .description(look.description)
    .datasource(SOURCE)
    .unit(look.unit ?? 'short')
    .decimals(2)
    .span(look.width ?? 6)
    .height(4)
    .targets(queries(targets));
}

/** A dashboard with the variables that `series` refers to. */
export function dashboard(uid: string, title: string, description: string): DashboardBuilder {
  const variable = (name: string, label: string, query: string) =>
    new QueryVariableBuilder(name)
      .label(label)
      .datasource(SOURCE)
      .query(query)
      .multi(true)
      .includeAll(true)
      // Also what has no such label, as without Kubernetes.
      .allValue('.*')
      .current({ text: 'All', value: '$__all' })
      .refresh(VariableRefresh.OnTimeRangeChanged);
  return new DashboardBuilder(title)
    .uid(uid)
    .description(description)
    .tags(['depthserve'])
    .time({ from: 'now-1h', to: 'now' })
    .refresh('30s')
    .timezone('browser')
    .tooltip(DashboardCursorSync.Crosshair)
    .readonly()
    .withVariable(
      new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'),
    )
    .withVariable(variable('model', 'Model', 'label_values(depthserve_ready, model)'))
    .withVariable(
      variable(
        'namespace',
        'Namespace',
        'label_values(depthserve_ready{model=~"$model"}, namespace)',
      ),
    )
    .withVariable(
      variable(
        'pod',
        'Pod',
        'label_values(depthserve_ready{model=~"$model",namespace=~"$namespace"}, pod)',
      ),
    );
}
