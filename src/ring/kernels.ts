/**
 * Loads the kernels, on either target, for one thread and one arena.
 *
 * WebAssembly is the default; `--force-max-simd-bitwidth=64` takes JavaScript, as DPDK takes its scalar paths then.
 * @module
 */
import { readFileSync } from 'node:fs';
import { bindAccess } from '../memory/access.ts';
import type { Arena, ArenaShare, ArenaViews } from '../memory/arena.ts';
import { viewsOfShare } from '../memory/arena.ts';

export type KernelTarget = 'wasm' | 'javascript';

/** Moves up to `count` packets between a queue and the handles at arena offset `mbufs`; returns how many. */
export type BurstKernel = (queue: number, mbufs: number, count: number) => number;

/** The functions that touch rings and packets. All arguments are arena offsets or counts, u32. */
export interface Kernels {
  readonly mbufAllocate: (pool: number, lcore: number, to: number, count: number) => number;
  readonly packetFree: (packet: number, lcore: number) => void;
  readonly packetsFree: (from: number, count: number, lcore: number) => void;
  readonly splitDriverTransmit: BurstKernel;
  readonly splitDriverReceive: BurstKernel;
  readonly splitDriverReclaim: (queue: number) => number;
  readonly splitDriverRefill: (queue: number, lcore: number) => number;
  readonly splitDeviceDequeue: BurstKernel;
  readonly splitDeviceEnqueue: BurstKernel;
  readonly packedDriverTransmit: BurstKernel;
  readonly packedDriverReceive: BurstKernel;
  readonly packedDriverReclaim: (queue: number) => number;
  readonly packedDriverRefill: (queue: number, lcore: number) => number;
  readonly packedDeviceDequeue: BurstKernel;
  readonly packedDeviceEnqueue: BurstKernel;
  /** Of virtqueues of either format, the first two of either end. */
  readonly virtqueueReceive: BurstKernel;
  readonly virtqueueTransmit: BurstKernel;
  readonly driverReclaim: (queue: number) => number;
  readonly driverRefill: (queue: number, lcore: number) => number;
  /** Ask the other side to notify: 1, or 0 when there is something already. */
  readonly driverArm: (queue: number) => number;
  readonly driverDisarm: (queue: number) => void;
  readonly deviceArm: (queue: number) => number;
  readonly deviceDisarm: (queue: number) => void;
  readonly nullReceive: BurstKernel;
  readonly nullTransmit: BurstKernel;
  readonly ringReceive: BurstKernel;
  readonly ringTransmit: BurstKernel;
  readonly pcapReceive: BurstKernel;
  readonly pcapTransmit: BurstKernel;
  readonly tapPlace: (queue: number) => number;
  readonly tapReceive: BurstKernel;
  readonly tapPrepare: (queue: number, from: number) => number;
  readonly tapSent: (queue: number, from: number, taken: number, sent: number, bytes: number) => void;
  readonly captureBegin: (entry: number, mbufs: number, count: number) => void;
  readonly captureCommit: (entry: number, count: number) => void;
  readonly packetReceive: BurstKernel;
  readonly packetTransmit: BurstKernel;
  readonly packetRoom: (queue: number) => number;
  readonly xdpReceive: BurstKernel;
  readonly xdpTransmit: BurstKernel;
  readonly xdpRoom: (queue: number) => number;
  readonly finishTransmit: (queue: number, packet: number) => number;
  readonly stripVlans: (mbufs: number, count: number) => void;
  readonly setEthernetAddresses: (mbufs: number, count: number, addresses: number) => void;
  readonly swapEthernetAddresses: (mbufs: number, count: number) => void;
  readonly swapFiveTuples: (mbufs: number, count: number) => void;
  readonly finishChecksum: (frame: number, length: number) => number;
  readonly finishPacketChecksum: (packet: number) => number;
  readonly insertVlan: (packet: number) => number;
  readonly cutPacket: (packet: number, pool: number, lcore: number, to: number, limit: number, keepChecksum: number) => number;
  /** cutPacket() for fragments of IPv4 packets no longer than `size`. */
  readonly cutFragments: (packet: number, pool: number, lcore: number, to: number, limit: number, size: number) => number;
  readonly cutLargePackets: (settings: number, from: number, count: number, to: number, room: number, lcore: number) => number;
  readonly recomputeChecksums: (settings: number, addresses: number, mbufs: number, count: number) => void;
  readonly gatherPackets: (settings: number, from: number, count: number, to: number, before: number, lcore: number) => number;
  readonly finishGathering: (settings: number) => void;
  readonly answerRequests: (mbufs: number, count: number, mac: number, lcore: number) => number;
  readonly generatePackets: (template: number, lcore: number, to: number, count: number) => number;
  readonly spreadFlows: (template: number, mbufs: number, count: number) => void;
  readonly stampPackets: (recorder: number, mbufs: number, count: number) => void;
  readonly recordLatency: (recorder: number, mbufs: number, count: number) => void;
  readonly flowHash: (key: number) => number;
  readonly flowLookup: (table: number, key: number) => number;
  readonly lpmLookup: (table: number, address: number, bytes: number) => number;
  readonly routePackets: (router: number, mbufs: number, count: number, lists: number, outputs: number, lcore: number) => number;
  readonly markVlan: (mbufs: number, count: number, tci: number) => void;
}

/** What a thread works on: the arena's views and kernels bound to it. */
export interface KernelContext {
  readonly target: KernelTarget;
  readonly views: ArenaViews;
  readonly kernels: Kernels;
}

let compiled: WebAssembly.Module | undefined;

function moduleBytes(): WebAssembly.Module {
  // the same place from src/ring and from dist/ring
  compiled ??= new WebAssembly.Module(readFileSync(new URL('../../dist/kernels.wasm', import.meta.url)));
  return compiled;
}

let javascript: Kernels | undefined;

/** Gives this thread the JavaScript kernels, for who has imported them already. */
export function provideJavascript(kernels: Kernels): void {
  javascript = kernels;
}

/** Loads what loadKernels() needs for a target; once a thread. WebAssembly needs nothing. */
export async function prepareKernels(target: KernelTarget): Promise<void> {
  if (target === 'javascript') provideJavascript((await import('./javascript-kernels.ts')).javascriptKernels);
}

/**
 * Kernels that work on an arena; prepareKernels() comes before. Those in JavaScript work on one arena a thread: the one bound last.
 * @throws Error when they have not been prepared
 */
export function loadKernels(target: KernelTarget, arena: Arena | ArenaShare): KernelContext {
  const share = 'share' in arena ? arena.share() : arena;
  const views = viewsOfShare(share);
  if (target === 'javascript') {
    if (javascript === undefined) throw new Error("the JavaScript kernels are not there yet: await prepareKernels('javascript') first");
    bindAccess(views);
    return { target, views, kernels: javascript };
  }
  const instance = new WebAssembly.Instance(moduleBytes(), {
    env: {
      memory: share.memory,
      abort: () => {
        throw new Error('a kernel called abort');
      },
    },
  });
  // a plain object: V8 looks exports up in a dictionary, at every call
  return { target, views, kernels: { ...instance.exports } as unknown as Kernels };
}
