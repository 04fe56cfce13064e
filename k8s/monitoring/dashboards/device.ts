import { RowBuilder } from '@grafana/grafana-foundation-sdk/dashboard';
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { dashboard, graph, quantile, rate, series } from './panels.ts';

const BY_REPLICA = '{{pod}} {{instance}}';

/** For the operators of the machine: is it busy, slowed down, full? */
export function deviceDashboard(): Dashboard {
  return dashboard(
    'depthserve-device',
    'DepthServe: device',
    'Engines, batches, queue, GPU and process of each replica.',
  )
    .withRow(new RowBuilder('Engines'))
    .withPanel(
      graph(
        {
          title: 'Engine busy share',
          description: 'Near 100 % is no alarm: depth gives way first. See accuracy lost.',
          unit: 'percentunit',
          min: 0,
          max: 1,
        },
        [
          `${rate('depthserve_engine_busy_seconds_total')} / ${series('depthserve_engines')}`,
          BY_REPLICA,
        ],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Load',
          description:
            'Images asked for, by what the engines can answer at full depth. The autoscalers aim ' +
            'at 1; beyond it, depth gives way.',
          unit: 'percentunit',
          min: 0,
        },
        [
          `${rate('depthserve_images_wanted_total')} / ${series('depthserve_full_depth_capacity')}`,
          BY_REPLICA,
        ],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Slowdown',
          description:
            'Batch times as a multiple of those that were measured: above 1 by neighbours or heat.',
          min: 0,
        },
        [series('depthserve_slowdown_factor'), BY_REPLICA],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Delay of results',
          description:
            'What batches take beyond work and typical waits: long when the main thread is busy.',
          unit: 's',
          min: 0,
        },
        [series('depthserve_delay_seconds'), BY_REPLICA],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Waits for a core',
          description:
            'Median time for which others had the core that an engine was ready to use, over its work.',
          unit: 'percentunit',
          min: 0,
        },
        [series('depthserve_hold_up_ratio'), BY_REPLICA],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Execution provider',
          description: '1 for the one in use; fallback=true: CUDA was wanted but did not load.',
          stacked: 'values',
        },
        [
          `sum by (provider, fallback) (${series('depthserve_execution_provider')})`,
          '{{provider}}, fallback={{fallback}}',
        ],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Images per batch',
          description: 'Large batches: load is met by batching. By tier.',
          min: 0,
        },
        [
          `sum by (tier) (${rate('depthserve_batch_size_sum')}) / sum by (tier) (${rate('depthserve_batch_size_count')})`,
          '{{tier}}',
        ],
        [quantile(0.95, 'depthserve_batch_size'), 'p95, all tiers'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Latency table in use',
          description: 'What the scheduler expects of one image, by tier.',
          unit: 's',
          min: 0,
        },
        [`max by (tier) (${series('depthserve_latency_table_seconds', 'batch="1"')})`, '{{tier}}'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Idle re-runs',
          description: 'Seconds a second that the super-net spends on confirming shallow answers.',
          unit: 'percentunit',
          min: 0,
        },
        [rate('depthserve_shadow_seconds_total'), BY_REPLICA],
      ),
    )
    .withRow(new RowBuilder('Queue'))
    .withPanel(
      graph({ title: 'Queue length', description: 'Images that wait for an engine.', min: 0 }, [
        series('depthserve_queue_length'),
        BY_REPLICA,
      ]),
    )
    .withPanel(
      graph(
        { title: 'Oldest in the queue', description: 'How long it has waited.', unit: 's', min: 0 },
        [series('depthserve_queue_oldest_age_seconds'), BY_REPLICA],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Time in the queue, p95',
          description: 'Of answered images, by tier.',
          unit: 's',
          min: 0,
        },
        [quantile(0.95, 'depthserve_duration_seconds', 'stage="queue"', 'tier'), '{{tier}}'],
      ),
    )
    .withRow(new RowBuilder('GPU'))
    .withPanel(
      graph(
        {
          title: 'GPU utilisation',
          description: 'Share of time in which any kernel ran; says little of how full it was.',
          unit: 'percentunit',
          min: 0,
          max: 1,
          width: 12,
        },
        [series('depthserve_gpu_utilization_ratio'), `GPU {{gpu}} ${BY_REPLICA}`],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'GPU memory',
          description: 'In use by any process, and installed.',
          unit: 'bytes',
          min: 0,
          width: 12,
        },
        [series('depthserve_gpu_memory_used_bytes'), `used, GPU {{gpu}} ${BY_REPLICA}`],
        [series('depthserve_gpu_memory_total_bytes'), `installed, GPU {{gpu}} ${BY_REPLICA}`],
      ),
    )
    .withRow(new RowBuilder('Process'))
    .withPanel(
      graph({ title: 'Processor', description: 'Cores in use.', min: 0 }, [
        rate('process_cpu_seconds_total'),
        BY_REPLICA,
      ]),
    )
    .withPanel(
      graph({ title: 'Memory', description: 'Resident.', unit: 'bytes', min: 0 }, [
        series('process_resident_memory_bytes'),
        BY_REPLICA,
      ]),
    )
    .withPanel(
      graph(
        {
          title: 'Event loop lag, p99',
          description: 'Delays of the main thread add to every answer and are in no table.',
          unit: 's',
          min: 0,
        },
        [series('nodejs_eventloop_lag_p99_seconds'), BY_REPLICA],
      ),
    )
    .build();
}
