/**
 * The options of DPDK's testpmd that are known here, and refused by name: each would change what the ports or the engines do.
 * @module
 */
import type { ArgumentKind, RefusedOption } from './option-table.ts';

export const REFUSED_TESTPMD_OPTIONS: readonly RefusedOption[] = [
  ...refuse('none', '', [
    'rss-level-inner',
    'rss-level-outer',
    'multi-rx-mempool',
    'txonly-multi-flow',
    'no-rmv-interrupt',
    'flow-isolate-all',
    'hot-plug',
    'mlockall',
    'no-mlockall',
    'no-iova-contig',
    'record-core-cycles',
    'record-burst-stats',
  ]),
  ...refuse('required', '', [
    'display-xstats',
    'num-procs',
    'proc-id',
    'flowgen-clones',
    'rxoffs',
    'rxpkts',
    'rxhdrs',
    'tx-ip',
    'tx-udp',
    'eth-link-speed',
    'bitrate-stats',
    'latencystats',
    'mp-alloc',
    'rx-mq-mode',
    'noisy-tx-sw-buffer-size',
    'noisy-tx-sw-buffer-flushtime',
    'noisy-lkup-memory',
    'noisy-lkup-num-writes',
    'noisy-lkup-num-reads',
    'noisy-lkup-num-reads-writes',
  ]),
  ...refuse('optional', '', ['rxq-share']),
  ...refuse('none', 'memory is not placed by NUMA node here', ['numa', 'no-numa']),
  ...refuse('required', 'memory is not placed by NUMA node here', ['port-numa-config', 'ring-numa-config', 'socket-num']),
  ...refuse('required', 'virtqueues have no such threshold', [
    'rxpt',
    'rxht',
    'rxfreet',
    'rxwt',
    'txpt',
    'txht',
    'txwt',
    'txfreet',
    'txrst',
  ]),
  ...refuse('required', 'virtio devices have no hairpin queues', ['hairpinq', 'hairpin-mode']),
  ...refuse('required', 'virtio devices do not parse tunnels', ['vxlan-gpe-port', 'geneve-parsed-port']),
];

function refuse(argument: ArgumentKind, why: string, names: readonly string[]): RefusedOption[] {
  return names.map((long) => ({ kind: 'refused', argument, long, why }));
}
