import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { deviceDashboard } from '../../k8s/monitoring/dashboards/device.ts';
import { serviceDashboard } from '../../k8s/monitoring/dashboards/service.ts';

export const dashboards: readonly Dashboard[] = [serviceDashboard(), deviceDashboard()];

export interface Query {
  readonly dashboard: string;
  readonly panel: string;
  /** As Grafana would send it with every variable at "All". */
  readonly expr: string;
}

/** Every query of a dashboard, those in rows included. */
export function queriesOf(dashboard: Dashboard): readonly Query[] {
  const panels = (dashboard.panels ?? []).flatMap((panel) =>
    panel.type === 'row' && 'panels' in panel ? panel.panels : panel,
  );
  return panels.flatMap((panel) =>
    ('targets' in panel ? (panel.targets ?? []) : []).map((target) => ({
      dashboard: dashboard.title!,
      panel: panel.title!,
      expr: (target as { expr?: string })
        .expr!.replaceAll(/\$(namespace|pod|model)/g, '.*')
        .replaceAll('$__rate_interval', '20s'),
    })),
  );
}
