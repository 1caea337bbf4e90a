/**
 * The kernels as JavaScript, which are loaded only where they are wanted (kernels.ts): forty modules that an lcore with WebAssembly would
 * read at its start for nothing.
 * @module
 */
import * as mempool from '../memory/mempool.kernel.ts';
import * as cutLarge from '../net/cut-large.kernel.ts';
import * as cut from '../net/cut-packet.kernel.ts';
import * as echo from '../net/echo.kernel.ts';
import * as ethernet from '../net/ethernet.kernel.ts';
import * as finishChecksum from '../net/finish-checksum.kernel.ts';
import * as finishPacket from '../net/finish-packet.kernel.ts';
import * as gather from '../net/gather.kernel.ts';
import * as flowTable from '../net/flow-table.kernel.ts';
import * as generate from '../net/generate.kernel.ts';
import * as latency from '../net/latency.kernel.ts';
import * as lpm from '../net/lpm.kernel.ts';
import * as markVlan from '../net/mark-vlan.kernel.ts';
import * as recompute from '../net/recompute-checksums.kernel.ts';
import * as router from '../net/router.kernel.ts';
import * as vlan from '../net/vlan.kernel.ts';
import * as finishTransmit from './finish-transmit.kernel.ts';
import * as ring from './handle-ring.kernel.ts';
import * as capture from './capture.kernel.ts';
import * as nothing from './null-queue.kernel.ts';
import * as packedDequeue from './packed-device-dequeue.kernel.ts';
import * as packedEnqueue from './packed-device-enqueue.kernel.ts';
import * as pcap from './pcap-queue.kernel.ts';
import * as tap from './tap-queue.kernel.ts';
import * as packetRing from './packet-ring.kernel.ts';
import * as deviceDequeue from './split-device-dequeue.kernel.ts';
import * as deviceEnqueue from './split-device-enqueue.kernel.ts';
import * as driverReceive from './split-driver-receive.kernel.ts';
import * as driverTransmit from './split-driver-transmit.kernel.ts';
import * as packedReceive from './packed-driver-receive.kernel.ts';
import * as packedTransmit from './packed-driver-transmit.kernel.ts';
import * as virtqueue from './virtqueue.kernel.ts';
import * as xdp from './xdp-queue.kernel.ts';
import type { Kernels } from './kernels.ts';

/** They work on one arena a thread: the one bound last (bindAccess). */
export const javascriptKernels: Kernels = {
  ...mempool,
  ...cut,
  ...cutLarge,
  ...echo,
  ...ethernet,
  ...finishChecksum,
  ...finishPacket,
  ...gather,
  ...flowTable,
  ...generate,
  ...latency,
  ...lpm,
  ...recompute,
  ...router,
  ...markVlan,
  ...vlan,
  ...finishTransmit,
  ...ring,
  ...nothing,
  ...packedDequeue,
  ...packedEnqueue,
  ...pcap,
  ...tap,
  ...capture,
  ...packetRing,
  ...deviceDequeue,
  ...deviceEnqueue,
  ...driverReceive,
  ...driverTransmit,
  ...packedReceive,
  ...packedTransmit,
  ...virtqueue,
  ...xdp,
};
