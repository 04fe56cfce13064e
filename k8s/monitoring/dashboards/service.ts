import { RowBuilder } from '@grafana/grafana-foundation-sdk/dashboard';
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { dashboard, figure, graph, quantile, rate, series } from './panels.ts';

const missed = `sum(${rate('depthserve_budget_requests_total', 'result="missed"')})`;
const asked = `sum(${rate('depthserve_budget_requests_total')})`;
const inTime = `sum(${rate('depthserve_requests_total', 'outcome="met"')})`;
const accuracy = `sum(${rate('depthserve_accuracy_delivered_total')}) / ${inTime}`;
const lost = `sum(${rate('depthserve_accuracy_lost_total')}) / ${inTime}`;
const sure = `sum(${rate('depthserve_confidence_delivered_total')}) / ${inTime}`;
const answered = `sum(${rate('depthserve_looks_total', 'look="first"')})`;
// There is no such series before the first of them.
const again = `(sum(${rate('depthserve_looks_total', 'look="second"')}) or vector(0))`;
const changed = `sum(${rate('depthserve_looks_changed_total')})`;
const total = 'stage="total"';

/** For the owners of the service: are budgets kept, and with which accuracy? */
export function serviceDashboard(): Dashboard {
  return dashboard(
    'depthserve-service',
    'DepthServe: service',
    'Budgets kept, accuracy delivered, and why not more of either.',
  )
    .withRow(new RowBuilder('Now'))
    .withPanel(
      figure(
        {
          title: 'Answered within budget',
          description: 'Share of requests, refused ones counted as missed. The SLO is 99 %.',
          unit: 'percentunit',
        },
        [`1 - ${missed} / ${asked}`, 'met'],
      ),
    )
    .withPanel(
      figure(
        {
          title: 'Delivered accuracy',
          description: 'Mean expected top-1 of the answers within budget.',
          unit: 'percentunit',
        },
        [accuracy, 'delivered'],
      ),
    )
    .withPanel(
      figure({ title: 'Images per second', description: 'Answered in time.', unit: 'reqps' }, [
        inTime,
        'in time',
      ]),
    )
    .withPanel(
      figure({ title: 'Replicas ready', description: 'Warm and taking requests.' }, [
        `sum(${series('depthserve_ready')})`,
        'ready',
      ]),
    )
    .withRow(new RowBuilder('Budgets'))
    .withPanel(
      graph(
        {
          title: 'Burn rate of the error budget',
          description:
            'At 1 the 30-day error budget of 1 % lasts for exactly 30 days; alerts fire at 14.4 and 6.',
          min: 0,
        },
        [`${missed} / ${asked} / 0.01`, 'burn rate'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Requests by outcome',
          description: 'met and late were answered; everything else is an error code.',
          unit: 'reqps',
          stacked: 'values',
          min: 0,
        },
        [`sum by (outcome) (${rate('depthserve_requests_total')})`, '{{outcome}}'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Refusals by reason',
          description:
            'overloaded: too much load. budget-too-small: not even an idle server could. ' +
            'deadline-passed: accepted, then overtaken.',
          unit: 'reqps',
          min: 0,
        },
        [`sum by (reason) (${rate('depthserve_refusals_total')})`, '{{reason}}'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Decoded in vain',
          description: 'Images that were decoded and not answered, per answered image.',
          unit: 'percentunit',
          min: 0,
        },
        [`sum(${rate('depthserve_decoded_in_vain_total')}) / ${answered}`, 'decoded in vain'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Share of the budget used',
          description: 'Above 100 %: late. Far below: the scheduler could have gone deeper.',
          unit: 'percentunit',
          min: 0,
        },
        ...[0.5, 0.95, 0.99].map(
          (share) => [quantile(share, 'depthserve_budget_used_ratio'), `p${share * 100}`] as const,
        ),
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Slack left',
          description: 'Budget left when the answer was out; below 0: late.',
          unit: 's',
        },
        [quantile(0.05, 'depthserve_slack_seconds'), 'tightest 5 %'],
        [quantile(0.5, 'depthserve_slack_seconds'), 'median'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Predicted by actual time',
          description: 'Below 1: too optimistic, and budgets will be missed.',
          width: 24,
        },
        [
          `sum by (of) (${rate('depthserve_prediction_ratio_sum')}) / sum by (of) (${rate('depthserve_prediction_ratio_count')})`,
          'of {{of}}, mean',
        ],
        [quantile(0.05, 'depthserve_prediction_ratio', '', 'of'), 'of {{of}}, p5'],
      ),
    )
    .withRow(new RowBuilder('Depth and accuracy'))
    .withPanel(
      graph(
        {
          title: 'Sub-networks in use',
          description: 'Share of the answers by tier; T = second sub-path of the stage skipped.',
          stacked: 'shares',
          unit: 'reqps',
        },
        [`sum by (tier) (${rate('depthserve_requests_total', 'tier!="none"')})`, '{{tier}}'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Accuracy delivered',
          description:
            'Against the most accurate sub-network, which calm times deliver. What is expected of ' +
            'these images follows from how sure their answers are, by calibration.',
          unit: 'percentunit',
        },
        [accuracy, 'delivered'],
        [sure, 'expected of these images'],
        [`max(${series('depthserve_expected_accuracy_ratio')})`, 'best sub-network'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Accuracy lost',
          description: 'What load costs callers. Half a point for long: more replicas pay.',
          unit: 'percentunit',
          min: 0,
        },
        [lost, 'lost'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Agreement with the super-net',
          description: 'Of the shallow answers that were run again while idle.',
          unit: 'percentunit',
          max: 1,
        },
        [
          `sum by (tier) (${series('depthserve_shadow_answers_total', 'agreement="agree"')}) / sum by (tier) (${series('depthserve_shadow_answers_total')})`,
          '{{tier}}',
        ],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Labelled accuracy',
          description: 'Of the answers whose true label POST /feedback told.',
          unit: 'percentunit',
          max: 1,
        },
        [
          `sum by (tier) (${series('depthserve_feedback_total', 'result="correct"')}) / sum by (tier) (${series('depthserve_feedback_total')})`,
          '{{tier}}',
        ],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Work saved',
          description:
            "Share of the super-net's multiply-accumulates that was not needed. Below 0 where second looks, or batches for requests without an answer, cost more than that.",
          unit: 'percentunit',
        },
        [
          `1 - sum(${rate('depthserve_macs_total')}) / sum(${rate('depthserve_super_net_macs_total')})`,
          'saved',
        ],
      ),
    )
    .withRow(new RowBuilder('Second looks'))
    .withPanel(
      graph(
        {
          title: 'Looks by tier',
          description: 'Of the answers that have left. Second looks take time that is left over.',
          unit: 'reqps',
          stacked: 'values',
          min: 0,
        },
        [`sum by (tier, look) (${rate('depthserve_looks_total')})`, '{{look}} by {{tier}}'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'Looked at again',
          description: 'Share of the answers, and of them those that a second look changed.',
          unit: 'percentunit',
          min: 0,
        },
        [`${again} / ${answered}`, 'looked at again'],
        [`${changed} / ${answered}`, 'changed by it'],
      ),
    )
    .withPanel(
      graph(
        {
          title: 'MACs per answer',
          description: 'Multiply-accumulates of all batches, second looks included, by answer.',
          min: 0,
        },
        [`sum(${rate('depthserve_macs_total')}) / ${answered}`, 'spent'],
        [`sum(${rate('depthserve_super_net_macs_total')}) / ${answered}`, 'by the super-net alone'],
      ),
    )
    .withRow(new RowBuilder('Latency'))
    .withPanel(
      graph({ title: 'p50 by tier', description: 'Arrival to answer.', unit: 's', min: 0 }, [
        quantile(0.5, 'depthserve_duration_seconds', total, 'tier'),
        '{{tier}}',
      ]),
    )
    .withPanel(
      graph({ title: 'p99 by tier', description: 'Arrival to answer.', unit: 's', min: 0 }, [
        quantile(0.99, 'depthserve_duration_seconds', total, 'tier'),
        '{{tier}}',
      ]),
    )
    .withPanel(
      graph(
        {
          title: 'p95 by stage',
          description: 'Where the time goes: decoding, waiting for an engine, inference.',
          unit: 's',
          min: 0,
        },
        [quantile(0.95, 'depthserve_duration_seconds', '', 'stage'), '{{stage}}'],
      ),
    )
    .build();
}
