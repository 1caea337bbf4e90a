/** The rules by which paths are chosen, as a table; and what ports say of theirs, our own two ends over a socket. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF } from '../../src/backend/virtio-features.ts';
import {
  RX_OFFLOAD_RSS_HASH,
  RX_OFFLOAD_SCATTER,
  RX_OFFLOAD_TCP_CKSUM,
  RX_OFFLOAD_TCP_LRO,
  RX_OFFLOAD_UDP_CKSUM,
  RX_OFFLOAD_VLAN_STRIP,
} from '../../src/port/offloads.ts';
import { choosePaths, type PathConditions } from '../../src/port/virtio-path.ts';
import { PortBench } from '../support/port-pair.ts';
import { TARGETS } from '../support/ring-pair.ts';

/** `packed in-order mergeable vectorized`: features and arguments by their words. */
function conditions(text: string, rxOffloads = 0, more: Partial<PathConditions> = {}): PathConditions {
  const words = text.split(' ');
  const bit = (word: string, feature: bigint): bigint => (words.includes(word) ? feature : 0n);
  return {
    features:
      (words.includes('legacy') ? 0n : VIRTIO_F_VERSION_1) |
      bit('packed', VIRTIO_F_RING_PACKED) |
      bit('in-order', VIRTIO_F_IN_ORDER) |
      bit('mergeable', VIRTIO_NET_F_MRG_RXBUF),
    vectorized: words.includes('vectorized'),
    rxOffloads,
    target: 'wasm',
    ...more,
  };
}

/** What was asked for and agreed on, DPDK's functions, and the burst modes. The first column is what DPDK's own log showed for it. */
const TABLE: readonly (readonly [string, string, string, string, string])[] = [
  ['', 'virtio_recv_pkts', 'virtio_xmit_pkts', 'Scalar', 'Scalar'],
  ['mergeable', 'virtio_recv_mergeable_pkts', 'virtio_xmit_pkts', 'Scalar mergeable', 'Scalar'],
  ['in-order', 'virtio_recv_pkts_inorder', 'virtio_xmit_pkts_inorder', 'Scalar in order', 'Scalar in order'],
  ['in-order mergeable', 'virtio_recv_pkts_inorder', 'virtio_xmit_pkts_inorder', 'Scalar in order mergeable', 'Scalar in order'],
  ['vectorized', 'virtio_recv_pkts_vec', 'virtio_xmit_pkts', 'Vector SIMD128', 'Scalar'],
  ['vectorized mergeable', 'virtio_recv_mergeable_pkts', 'virtio_xmit_pkts', 'Scalar mergeable', 'Scalar'],
  ['vectorized in-order', 'virtio_recv_pkts_inorder', 'virtio_xmit_pkts_inorder', 'Scalar in order', 'Scalar in order'],
  ['packed', 'virtio_recv_pkts_packed', 'virtio_xmit_pkts_packed', 'Scalar standard packed ring', 'Scalar packed ring'],
  [
    'packed mergeable',
    'virtio_recv_mergeable_pkts_packed',
    'virtio_xmit_pkts_packed',
    'Scalar mergeable packed ring',
    'Scalar packed ring',
  ],
  ['packed in-order', 'virtio_recv_pkts_packed', 'virtio_xmit_pkts_packed', 'Scalar in order packed ring', 'Scalar in order packed ring'],
  [
    'packed in-order mergeable',
    'virtio_recv_mergeable_pkts_packed',
    'virtio_xmit_pkts_packed',
    'Scalar in order mergeable packed ring',
    'Scalar in order packed ring',
  ],
  [
    'packed in-order vectorized',
    'virtio_recv_pkts_packed_vec',
    'virtio_xmit_pkts_packed_vec',
    'Vector SIMD128 packed ring',
    'Vector SIMD128 packed ring',
  ],
  // buffers of a packet that must be merged: receive falls back, transmit does not
  [
    'packed in-order mergeable vectorized',
    'virtio_recv_mergeable_pkts_packed',
    'virtio_xmit_pkts_packed_vec',
    'Scalar in order mergeable packed ring',
    'Vector SIMD128 packed ring',
  ],
  ['packed vectorized', 'virtio_recv_pkts_packed', 'virtio_xmit_pkts_packed', 'Scalar standard packed ring', 'Scalar packed ring'],
  [
    'legacy packed in-order vectorized',
    'virtio_recv_pkts_packed',
    'virtio_xmit_pkts_packed',
    'Scalar in order packed ring',
    'Scalar in order packed ring',
  ],
];

describe('paths', () => {
  it.each(TABLE)('%j: %s, %s', (text, receive, transmit, receiveMode, transmitMode) => {
    const paths = choosePaths(conditions(text));
    expect(paths.receive).toMatchObject({ dpdk: receive, burstMode: `${receiveMode}, WebAssembly` });
    expect(paths.transmit).toMatchObject({ dpdk: transmit, burstMode: `${transmitMode}, WebAssembly` });
    expect(paths.receive.format).toBe(text.includes('packed') ? 'packed' : 'split');
  });

  it.each([
    ['', 'standard Rx path', 'standard Tx path'],
    ['mergeable', 'mergeable buffer Rx path', 'standard Tx path'],
    ['in-order mergeable', 'inorder Rx path', 'inorder Tx path'],
    ['vectorized', 'vectorized Rx path', 'standard Tx path'],
    ['packed', 'packed ring standard Rx path', 'packed ring standard Tx path'],
    ['packed in-order mergeable', 'packed ring mergeable buffer Rx path', 'packed ring standard Tx path'],
    ['packed in-order vectorized', 'packed ring vectorized Rx path', 'packed ring vectorized Tx path'],
  ])('%j is announced in the words of dpdk-testpmd', (text, receive, transmit) => {
    const paths = choosePaths(conditions(text));
    expect([paths.receive.announcement, paths.transmit.announcement]).toEqual([receive, transmit]);
  });

  it.each([
    ['split', 'vectorized', RX_OFFLOAD_UDP_CKSUM, 'regular'],
    ['split', 'vectorized', RX_OFFLOAD_TCP_CKSUM, 'regular'],
    ['split', 'vectorized', RX_OFFLOAD_TCP_LRO, 'regular'],
    ['split', 'vectorized', RX_OFFLOAD_VLAN_STRIP, 'regular'],
    ['split', 'vectorized', RX_OFFLOAD_SCATTER, 'vectorized'],
    ['packed', 'packed in-order vectorized', RX_OFFLOAD_TCP_LRO, 'in-order'],
    ['packed', 'packed in-order vectorized', RX_OFFLOAD_RSS_HASH, 'in-order'],
    ['packed', 'packed in-order vectorized', RX_OFFLOAD_VLAN_STRIP, 'vectorized'],
  ])('%s ring, %j with receive offloads %i: %s', (_format, text, offloads, name) => {
    expect(choosePaths(conditions(text, offloads)).receive.name).toBe(name);
  });

  it('are not vectorized where nobody asked, without SIMD; it is said why', () => {
    for (const text of ['', 'packed in-order']) {
      const silent = choosePaths(conditions(text));
      expect([silent.receive.name, silent.disabled]).toEqual([text === '' ? 'regular' : 'in-order', []]);
      const paths = choosePaths(conditions(`${text} vectorized`, 0, { target: 'javascript' }));
      expect([paths.receive.name, paths.transmit.name]).not.toContain('vectorized');
      expect(paths.disabled.length).toBeGreaterThan(0);
    }
    expect(choosePaths(conditions('vectorized', 0, { target: 'javascript' }))).toMatchObject({
      disabled: ['disabled split ring vectorized rx: max SIMD bitwidth too low'],
      receive: { burstMode: 'Scalar, JavaScript' },
    });
    expect(choosePaths(conditions('vectorized in-order mergeable', RX_OFFLOAD_TCP_LRO)).disabled).toEqual([
      'disabled split ring vectorized rx: in_order enabled',
      'disabled split ring vectorized rx: mrg_rxbuf enabled',
      'disabled split ring vectorized rx: offloading enabled',
    ]);
    expect(choosePaths(conditions('packed vectorized')).disabled).toEqual(['disabled packed ring vectorized path: in_order disabled']);
  });
});

describe('ports tell their paths', () => {
  const directory = mkdtempSync(join(tmpdir(), 'dpdk-ts-paths-'));
  afterAll(() => rmSync(directory, { recursive: true }));

  it.each([
    ['', 'Scalar in order mergeable', 'Scalar in order'],
    [',in_order=0', 'Scalar mergeable', 'Scalar'],
    [',mrg_rxbuf=0', 'Scalar in order', 'Scalar in order'],
    [',mrg_rxbuf=0,in_order=0', 'Scalar', 'Scalar'],
  ])('virtio_user with %j', async (options, receive, transmit) => {
    const path = join(directory, 's.sock');
    await using bench = new PortBench();
    const vhost = await bench.open(`net_vhost0,iface=${path}`);
    const virtio = await bench.open(`virtio_user0,path=${path}${options}`);
    await bench.linksUp(virtio, vhost);
    expect(virtio.rxQueueInfo(0)?.burstMode).toBe(`${receive}, WebAssembly`);
    expect(virtio.txQueueInfo(0)?.burstMode).toBe(`${transmit}, WebAssembly`);
    expect(vhost.rxQueueInfo(0)?.burstMode).toBeUndefined();
    expect(bench.log.filter((line) => line.includes('disabled'))).toEqual([]);
    expect(bench.infoLog).toEqual([
      expect.stringMatching(/^pmd\.net\.virtio\.init: virtio: using (inorder|standard) Tx path on port 1$/),
      expect.stringMatching(/^pmd\.net\.virtio\.init: virtio: using (inorder|mergeable buffer|standard) Rx path on port 1$/),
    ]);
  });

  it('JavaScript kernels are named, and nothing is told while there is no device', async () => {
    const path = join(directory, 's.sock');
    await using bench = new PortBench(TARGETS[1]);
    const virtio = await bench.open(`virtio_user0,path=${path},server=1`);
    expect(virtio.rxQueueInfo(0)).toMatchObject({ descriptors: 256, burstMode: undefined });
    const vhost = await bench.open(`net_vhost0,iface=${path},client=1`);
    await bench.linksUp(virtio, vhost);
    expect(virtio.rxQueueInfo(0)?.burstMode).toBe('Scalar in order mergeable, JavaScript');
  });

  it('vectorized=1 falls back where its rules are not met, says why, and passes packets', async () => {
    const path = join(directory, 's.sock');
    await using bench = new PortBench();
    const vhost = await bench.open(`net_vhost0,iface=${path}`);
    const virtio = await bench.open(`virtio_user0,path=${path},vectorized=1,in_order=0`);
    await bench.linksUp(virtio, vhost);
    expect(bench.log).toContain('virtio_user0: disabled split ring vectorized rx: mrg_rxbuf enabled');
    expect(virtio.rxQueueInfo(0)?.burstMode).toBe('Scalar mergeable, WebAssembly');
    bench.pass(virtio, vhost);
    bench.pass(vhost, virtio);
  });

  it('vectorized=1 is vectorized where the rules are met, and passes packets', async () => {
    const path = join(directory, 's.sock');
    await using bench = new PortBench();
    const vhost = await bench.open(`net_vhost0,iface=${path}`);
    const virtio = await bench.open(`virtio_user0,path=${path},vectorized=1,in_order=0,mrg_rxbuf=0`);
    await bench.linksUp(virtio, vhost);
    expect(virtio.rxQueueInfo(0)?.burstMode).toBe('Vector SIMD128, WebAssembly');
    expect(virtio.txQueueInfo(0)?.burstMode).toBe('Scalar, WebAssembly');
    expect(bench.log.filter((line) => line.includes('disabled'))).toEqual([]);
    bench.pass(virtio, vhost);
    bench.pass(vhost, virtio);
  });
});
